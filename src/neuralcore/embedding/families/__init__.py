"""What an encoder is: from config.json and a checkpoint to a `Stack`, for one architecture in one file each."""
