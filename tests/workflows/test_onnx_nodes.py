"""The ONNX project's own tests of the operators that the engine claims; docs/operators.md is written from them."""

import onnx_nodes


def test_every_claimed_operator_passes_onnx_own_tests(program: str, capsys) -> None:
    found = onnx_nodes.outcomes(program)
    known = onnx_nodes.claimed(program)
    with capsys.disabled():
        print()
        for name, passed, failed, refused in onnx_nodes.table(found, known):
            print(f"{name:32} {passed:4} pass {failed:4} fail {refused:4} not claimed")
    assert not [outcome for outcome in found if outcome.state == "fail"]
    # A runner that claims nothing would pass too. What becomes other operators has its tests in test_import.py.
    tested = {outcome.operator for outcome in found if outcome.state == "pass"}
    rewritten = {"Cast", "CastLike"}
    assert {name for name in known if "." not in name} - rewritten <= tested
    assert sum(outcome.state == "pass" for outcome in found) >= 200
    assert onnx_nodes.DOCUMENT.read_text() == onnx_nodes.document(found, known)
