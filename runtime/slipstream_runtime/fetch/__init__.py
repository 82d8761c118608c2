"""Job that downloads models into a shared cache, or reports facts about checkpoints, without an accelerator."""
