"""Writes one tiny model a case, with its original framework's answers, to tests/golden/layers/.

Run: python tests/golden/layers.py
"""

import shutil

import case
import layers_keras
import layers_pytorch


def main() -> None:
    shutil.rmtree(case.FOLDER, ignore_errors=True)
    case.FOLDER.mkdir()
    layers_pytorch.main()
    layers_keras.main()


if __name__ == "__main__":
    main()
