"""INT8 and FP16: smaller and faster models from an fp32 one."""
