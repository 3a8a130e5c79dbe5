"""Under which heading of a help page an option stands, by its name in the settings; one not named here: "Options"."""

OWN = "Options"

GROUPS = {
    "Model": "model overrides override set kernels",
    "Optimisation": "lr muon_lr weight_decay beta1 beta2 clip schedule warmup final_lr end_lr peak decay optimizer "
    "max_loss_jump mask_documents",
    "Evaluation": "valid holdout eval_every eval_tokens",
    "Output": "output out force dry_run plot tensorboard save_dtype save_every keep max_shard_size rows markdown html "
    "curve curve_text",
    "Reading text": "field id_field text_mode document_separator format input_format strict broken include exclude "
    "sample limit_bytes data_format template ignore date tokenizer old_tokenizer bin_dtype",
    "Machine": "device dtype threads workers engine parallel recompute compiled compile cpu max_memory budget",
    "This command": "as_json quiet verbose config print_config version help",
}
"""Heading -> names, in the order of the pages; the command's own options come first."""

ORDER = (OWN, *GROUPS)
_HEADINGS = {name: heading for heading, names in GROUPS.items() for name in names.split()}


INPUTS = {("llmtool tokenizer trim", "keep"), ("llmtool convert vocab", "rows")}
"""(command, name) of options that are no output there, as others of the name are elsewhere."""


def heading(field: str, path: str = "") -> str:
    """The heading of an option of the command `path`."""
    return OWN if (path, field) in INPUTS else _HEADINGS.get(field, OWN)
