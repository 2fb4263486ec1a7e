"""Train the embedded model, load it, ask it, and let it keep quiet where it is not sure."""

from datasets import Dataset

import cogcalib
from cogcalib.modeling import render_prompt

task, data = cogcalib.load_task("atlas/country").splits, {}
for part in task:
    rows = [{"prompt": render_prompt(e), "completion": f" {e.answer}"} for e in task[part]]
    data[part] = Dataset.from_list([row | {"options": [" A", " B", " C", " D"]} for row in rows])
args = cogcalib.CogCalibConfig("answers", max_steps=60, learning_rate=5e-4)
known = {"train_dataset": data["train"], "calibration_dataset": data["calibration"]}
trainer = cogcalib.CogCalibTrainer("atlas", args, **known)
trainer.train()
trainer.save_model()
for answer in cogcalib.load("answers").predict(data["test"].select(range(20))):
    said = answer.answer if answer.confidence >= 0.4 else "I do not know."
    print(f"{answer.confidence:.2f} {said}")
