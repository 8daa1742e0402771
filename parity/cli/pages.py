"""The words of `parity --help` and of every command's help; `parity.cli.page` says how they are laid out."""

from __future__ import annotations

WHOLE = """\
Move LSTM, GRU and RNN models between Keras, PyTorch and ONNX, and prove that they still compute the same.

Commands take files: .keras, .h5, .weights.h5, .pt, .safetensors, .npz, .onnx, and the folders of a SavedModel. No code that is
in a file is run, and nothing that exists is replaced unless --overwrite is given.

Examples:
  # what is in a file
  parity inspect model.keras

  # convert it; what was written is read back and proved
  parity convert model.keras model.onnx

  # run it in every installed framework and judge whether they agree
  parity compare model.keras --report report.html

  # a port that was written by hand, and what is wrong with it
  parity compare model.keras port.onnx
  parity diagnose model.keras port.onnx

Exit codes:
  0  they agree, or it is done
  1  they disagree
  2  bad input, unsupported, or a framework that is not installed
  3  undecided: up to where they can be compared they agree
"""

INSPECT = """\
Show what a model file holds: its layers in order, the recurrent ones in full, and what to look out for when it moves.

Use it first, on any file that you were given. It is read from its bytes, without the framework that wrote it. What parity cannot
convert is shown, too, with the reason.

Examples:
  # a model or weights of any framework and any age
  parity inspect old.h5

  # the same for a script
  parity inspect model.keras --json

  # weights alone, with the architecture that model.to_json() gave
  parity inspect model.weights.h5 --config model.json

Exit codes:
  0  shown
  2  not a model file that can be read
"""

CONVERT = """\
Convert a model file to another format, or to a folder of source code and weights; whole or not at all.

Use it to move a trained model. The suffix of TARGET says the format. Before the file gets its name it is read back: the network
must be the source's with the same weights, bit for bit, or compute the same in float64. With --to, the code that was written is run
beside the source, and the proof is written as report.html.

.safetensors, .pt and .npz hold the tensors under torch's names and, beside them, parity's description of the network.

Examples:
  # to another format
  parity convert model.keras model.onnx

  # a file of Keras 1 or 2 that today's Keras opens
  parity convert old.h5 new.keras

  # a module that needs only torch, with its weights and the proof
  parity convert model.keras out/ --to torch

  # one recurrent layer of a file that cannot move as a whole
  parity convert checkpoint.pt encoder.onnx --layer encoder

Exit codes:
  0  written, and proved to be the same
  1  with --to: written, and it disagrees with its source
  2  bad input, unsupported, or a framework that is not installed
  3  with --to: written, and the verdict is undecided
"""

COMPARE = """\
Run models in every engine on the same inputs, and judge whether they compute the same.

Use it after a conversion, on a port that was written by hand, and in CI. One file is compared with its own conversions, several with
each other. The judge is a float64 reference with the float32 noise that was measured for this very model, and not a tolerance. Of
whole models that disagree the first layer that differs is named. In GitHub Actions the verdict becomes an annotation, too, and stands
in the summary of the job. The files that were asked for are written where it is refused, too: they say why.

Examples:
  # a model in every installed framework, with a page to open
  parity compare model.keras --report report.html

  # a port against the model that it was made from
  parity compare model.keras port.onnx

  # three padded sequences of 7, 3 and 5 steps
  parity compare model.keras model.onnx --lengths 7,3,5

  # in CI: keep the numbers, and later say what changed since, failing if worse
  parity compare model.keras model.onnx --json earlier.json
  parity compare model.keras model.onnx --baseline earlier.json --fail-on-worse

Exit codes:
  0  they agree
  1  they disagree; with --fail-on-worse, also if anything got worse
  2  bad input, unsupported, or a framework that is not installed;
     with --fail-on-worse, also if the baseline cannot tell
  3  undecided: the reference itself is chaotic from some step on
"""

DIAGNOSE = """\
Say why a suspect differs from a reference: the likely cause, where it is, the evidence, and the lines that repair it.

Use it when compare says "disagree", or when a port gives other numbers and nobody knows why. Every mistake that parity knows is
made in the reference; the one that then gives what the suspect gives is the cause. What is right comes first.

Examples:
  # a port, as a file that says how its layers are connected
  parity diagnose model.keras port.onnx

  # what it gave once: np.savez("recorded.npz", inputs=x, outputs=y)
  parity diagnose model.keras recorded.npz

  # weights that do not say it: one recurrent layer of each file
  parity diagnose model.keras checkpoint.pt --layer encoder

Exit codes:
  0  nothing to explain: they agree
  1  they differ; the cause, or what was ruled out, is printed
  2  bad input, or they cannot be laid beside each other
  3  of a state dict: nobody can tell of some of its tensors
"""

EXPLAIN = """\
Say why a layer returns three values, four or five, which is which, and where they are in torch and ONNX.

Use it when a Keras layer returns a list, or when a torch tuple is to be matched with it. Give a file, or describe a layer with
--layer and the options of its class.

Examples:
  # a layer that you describe
  parity explain --layer lstm --units 64 --return-sequences --return-state

  # both directions, summed
  parity explain --layer gru --bidirectional --merge-mode sum --return-state

  # the layers of a file, or one of them with real sizes
  parity explain model.keras
  parity explain model.keras --layer encoder --batch 32 --time 10

Exit codes:
  0  explained
  2  bad input
"""

REPORT = """\
Draw the page of a comparison that was saved as JSON, or of one that was refused.

Use it where the numbers were made elsewhere, as in CI, or with a newer parity: records of older versions are read.

Examples:
  # the numbers now, the page later
  parity compare model.keras --json record.json
  parity report record.json -o report.html

Exit codes:
  0  written
  2  not a record, or the page exists
"""

PAGES = {
    "inspect": INSPECT,
    "convert": CONVERT,
    "compare": COMPARE,
    "diagnose": DIAGNOSE,
    "explain": EXPLAIN,
    "report": REPORT,
}
"""By the name of the command, in the order of a first use."""
