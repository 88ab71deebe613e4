"""Faults provoked on purpose: `python -m faults`, or `make faults`. One file a campaign.

A campaign is a module with a `TITLE` and `trials(random)`, which yields `Trial`s: a name, and a function that provokes
one fault and raises if the product did not hold. What goes wrong in a trial must not end the campaign: what may crash,
hang or fill the memory runs in a process of its own.
"""
