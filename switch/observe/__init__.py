"""What the switch shows of itself: metrics, logs, the last messages, health."""
