"""What a run tells its user: progress, the table, the run folder, TensorBoard, figures. Reads results, never
trains; no torch.
"""
