# ruff: noqa: E501 - templates are long where a line's end would be written out
"""Chat templates of the forms that models have, in words of our own: what `transformers` makes of each is the oracle.

name -> (source, keys of CONVERSATIONS that it takes). Whitespace control, namespaces, macros, loop controls, `tojson`,
`strftime_now`, thoughts that are taken out of earlier answers, `{% generation %}`, and refusals all occur.
"""

PLAIN, SYSTEM, TOOLS, THOUGHT = "plain", "system", "tools", "thought"

CHATML = """{%- for m in messages -%}
    {%- if loop.first and m.role != 'system' -%}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{%- endif -%}
    {{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set first = messages[0]['content'] %}\
{% else %}{% set rest = messages %}{% set first = false %}{% endif %}
{% for m in rest %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}
{% if loop.index0 == 0 and first != false %}{% set said = '<<SYS>>\\n' + first + '\\n<</SYS>>\\n\\n' + m['content'] %}\
{% else %}{% set said = m['content'] %}{% endif %}
{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + said.strip() + ' [/INST]' }}\
{% elif m['role'] == 'assistant' %}{{ ' ' + said.strip() + ' ' + eos_token }}{% endif %}
{% endfor %}"""

LLAMA3 = """{% for m in messages %}{% set turn = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' \
+ m['content'] | trim + '<|eot_id|>' %}{{ bos_token + turn if loop.first else turn }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set said = '' %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{%- endif %}
{{- 'Today: ' + date_string + '\\n\\n' + said + '<|eot_id|>' }}
{%- if tools is not none %}
    {%- set ask = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\nTools:\\n' }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- '\\n\\n' }}{%- endfor %}{{- ask + '<|eot_id|>' }}
{%- endif %}
{%- for m in messages %}
    {%- if not (m.role == 'tool' or 'tool_calls' in m) %}
        {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in m %}
        {%- set call = m.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}{{- '}<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + m.content | tojson + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""

MISTRAL1 = """{{ bos_token }}{% for m in messages %}\
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user/assistant/user/...') }}{% endif %}\
{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}\
{{ m['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"""

MISTRAL3 = """{%- if messages[0]['role'] == 'system' %}{%- set first = messages[0]['content'] %}\
{%- set talk = messages[1:] %}{%- else %}{%- set talk = messages %}{%- endif %}
{%- set asks = talk | selectattr('role', 'equalto', 'user') | list %}
{{- bos_token }}
{%- for m in talk %}
    {%- if m['role'] == 'user' %}
        {%- if tools is not none and m == asks[-1] %}{{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}\
{%- endif %}
        {%- if loop.last and first is defined %}{{- '[INST] ' + first + '\\n\\n' + m['content'] + '[/INST]' }}
        {%- else %}{{- '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}
    {%- elif m.tool_calls is defined and m.tool_calls | length > 0 %}
        {{- '[TOOL_CALLS] [' }}
        {%- for c in m.tool_calls %}{{- (c.function | tojson)[:-1] + '}' + (', ' if not loop.last else ']' + eos_token) }}\
{%- endfor %}
    {%- elif m['role'] == 'assistant' %}{{- ' ' + m['content'] | trim + eos_token }}
    {%- elif m['role'] == 'tool' %}{{- '[TOOL_RESULTS] {"content": ' + m.content | string + '}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}
"""

ZEPHYR = """{% for m in messages %}
{% if m['role'] == 'user' %}
{{ '<|user|>\\n' + m['content'] + eos_token }}
{% elif m['role'] == 'system' %}
{{ '<|system|>\\n' + m['content'] + eos_token }}
{% elif m['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + m['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}\
{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}\
{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

PHI3 = """{% for m in messages %}{% if m['role'] == 'system' %}{{ '<|system|>\\n' + m['content'] + '<|end|>\\n' }}\
{% elif m['role'] == 'user' %}{{ '<|user|>\\n' + m['content'] + '<|end|>\\n' }}\
{% elif m['role'] == 'assistant' %}{{ '<|assistant|>\\n' + m['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}{{- 'Be of help.' }}{%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}{%- for t in tools %}{{- "\\n" }}{{- t | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
    {%- if (m.role == "user") or (m.role == "system" and not loop.first) or (m.role == "assistant" and not m.tool_calls) %}
        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
    {%- elif m.role == "assistant" %}
        {{- '<|im_start|>' + m.role }}{%- if m.content %}{{- '\\n' + m.content }}{%- endif %}
        {%- for c in m.tool_calls %}{%- if c.function is defined %}{%- set c = c.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' + c.name + '", "arguments": ' }}{{- c.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}{{- '<|im_end|>\\n' }}
    {%- elif m.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

QWEN3 = """{%- set ns = namespace(last=-1) %}
{%- for m in messages[::-1] %}{%- set place = (messages | length - 1) - loop.index0 %}
    {%- if ns.last < 0 and m.role == "user" %}{%- set ns.last = place %}{%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role != "assistant" %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
    {%- else %}
        {%- set thought = '' %}{%- set said = m.content %}
        {%- if m.reasoning_content is string %}{%- set thought = m.reasoning_content %}
        {%- elif '</think>' in said %}
            {%- set thought = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set said = said.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + said.lstrip('\\n') }}
        {%- else %}{{- '<|im_start|>assistant\\n' + said }}{%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

SMOLLM3 = """{%- for m in messages -%}
    {%- if m.role == "user" -%}{{ "<|im_start|>user\\n" + m.content + "<|im_end|>\\n" }}
    {%- elif m.role == "assistant" -%}
        {% generation %}{{ "<|im_start|>assistant\\n" + m.content.lstrip("\\n") + "<|im_end|>\\n" }}{% endgeneration %}
    {%- elif m.role in ["tool", "system"] -%}{{ "<|im_start|>" ~ m.role ~ "\\n" ~ m.content ~ "<|im_end|>\\n" }}
    {%- else -%}{%- continue -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{%- endif -%}
"""

INNER = """{% macro turn(role) %}{{ '<|im_start|>' + role + '\\n' }}{% endmacro %}
{%- for m in messages %}{{ turn(m.role) }}
    {%- if m.role == 'assistant' %}{%- generation -%}{{ m.content }}{{ '<|im_end|>' }}{%- endgeneration -%}{{ '\\n' }}
    {%- else %}{{- m.content + '<|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ turn('assistant') }}{%- endif %}"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\\n\\n' }}\
{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}\
{% elif m['role'] == 'system' %}{{ m['content'] + '\\n\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""

COMMAND_R = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set talk = messages[1:] %}\
{% set first = messages[0]['content'] %}{% else %}{% set talk = messages %}{% set first = false %}{% endif %}\
{% if first != false %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + first + '<|END_OF_TURN_TOKEN|>' }}{% endif %}\
{% for m in talk %}{% set said = m['content'] %}{% if m['role'] == 'user' %}\
{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + said.strip() + '<|END_OF_TURN_TOKEN|>' }}{% elif m['role'] == 'assistant' %}\
{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'  + said.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""

TEMPLATES: dict[str, tuple[str, tuple[str, ...]]] = {
    "chatml": (CHATML, (PLAIN, SYSTEM)),
    "llama-2": (LLAMA2, (PLAIN, SYSTEM)),
    "llama-3": (LLAMA3, (PLAIN, SYSTEM)),
    "llama-3.1": (LLAMA31, (PLAIN, SYSTEM, TOOLS)),
    "mistral-v0.1": (MISTRAL1, (PLAIN,)),
    "mistral-v3": (MISTRAL3, (PLAIN, SYSTEM, TOOLS)),
    "zephyr": (ZEPHYR, (PLAIN, SYSTEM)),
    "gemma": (GEMMA, (PLAIN,)),
    "phi-3": (PHI3, (PLAIN, SYSTEM)),
    "qwen2.5": (QWEN25, (PLAIN, SYSTEM, TOOLS)),
    "qwen3": (QWEN3, (PLAIN, SYSTEM, THOUGHT)),
    "smollm3": (SMOLLM3, (PLAIN, SYSTEM)),
    "generation": (INNER, (PLAIN, SYSTEM)),
    "deepseek": (DEEPSEEK, (PLAIN, SYSTEM)),
    "command-r": (COMMAND_R, (PLAIN, SYSTEM)),
}

TALK: list[dict[str, object]] = [
    {"role": "user", "content": "Is <b>5 > 3</b> & 'so'?  Say "},
    {"role": "assistant", "content": "Yes: 5 > 3.\n\n  é 漢 \U0001f642"},
    {"role": "user", "content": " And\n3 > 5?"},
    {"role": "assistant", "content": "No"},
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Köln & <Bonn>", "days": [1, 2.5]}}}
CONVERSATIONS: dict[str, list[dict[str, object]]] = {
    PLAIN: [dict(turn) for turn in TALK],
    SYSTEM: [{"role": "system", "content": "Be short."}, *(dict(turn) for turn in TALK)],
    TOOLS: [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": '{"degrees": 12, "sky": "grau & naß"}', "name": "weather"},
        {"role": "assistant", "content": "12 degrees."},
    ],
    THOUGHT: [
        TALK[0], {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}, TALK[2],
        {"role": "assistant", "content": "No.", "reasoning_content": "so\nit is"},
    ],
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "description": "It's <warm> & \"so\"", "parameters": {
    "type": "object", "properties": {"town": {"type": "string", "description": "Ort, z. B. Köln"}}}}}  # fmt: skip
MARKS = (
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
    "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|end|>", "<|START_OF_TURN_TOKEN|>",
    "<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
)  # fmt: skip
