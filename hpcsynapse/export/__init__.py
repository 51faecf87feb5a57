"""What a run recorded, in the formats of other programs: TensorBoard, MLflow, OpenMetrics."""
