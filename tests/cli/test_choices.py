"""A value that is none of the choices is a matter of usage, whichever command reads it, and named as typed."""

import shlex

import pytest

from tests.faults.trial import invoke

WRONG = {
    "eval ruler model --task nope": "--task nope: no such choice (one of single, multikey,",
    "eval ruler model --task singel": "--task singel: no such choice (did you mean 'single'?)",
    "convert dsmoe-baseline nope model": "error: KIND nope: no such choice (one of topk, static, channels, 2:4)",
    "completions bsh": "error: SHELL bsh: no such choice (did you mean 'bash'?)",
    "bench kernels nope": "op 'nope' is not known (did you mean 'rope'?)",
    "bench kernels rope --cpu --sizes nope": "sizes 'nope' are not known to rope",
    "bench compile rope --arch sm_1": "architecture 'sm_1' is not known (one of sm_80,",
    "bench device --parts nope": "part 'nope' is not known",
    "bench machine --nope": "no such option: --nope",
    "eval ruler model --device nope": "device 'nope' is not known (cpu, cuda or cuda:N)",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_none_of_the_choices_is_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if words.startswith(("bench", "eval")):
        pytest.importorskip("torch")
    if "compile" in words:
        pytest.importorskip("triton")
    assert invoke(shlex.split(words)) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert WRONG[words] in said.err
