"""What operators run: demo, drills, the proof, the embedded database."""
