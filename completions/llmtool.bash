# bash completion for llmtool; generated, do not edit
_llmtool() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path=llmtool i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
            "llmtool methods"|"llmtool doctor"|"llmtool generate"|"llmtool verify"|"llmtool tokenizer"|"llmtool tokenizer train"|"llmtool tokenizer encode"|"llmtool tokenizer decode"|"llmtool tokenizer inspect"|"llmtool tokenizer compare"|"llmtool tokenizer export"|"llmtool scaling"|"llmtool scaling fit"|"llmtool scaling predict"|"llmtool scaling backtest"|"llmtool scaling compare"|"llmtool scaling positions"|"llmtool scaling law"|"llmtool convert"|"llmtool convert inspect"|"llmtool convert copy"|"llmtool convert export"|"llmtool bench"|"llmtool bench compile"|"llmtool bench tokenizer") path="$path ${COMP_WORDS[i]}" ;;
        esac
    done
    case "$path:$prev" in
        "llmtool generate:--max-tokens") COMPREPLY=(); return ;;
        "llmtool generate:--temperature") COMPREPLY=(); return ;;
        "llmtool generate:--top-k") COMPREPLY=(); return ;;
        "llmtool generate:--top-p") COMPREPLY=(); return ;;
        "llmtool generate:--seed") COMPREPLY=(); return ;;
        "llmtool generate:--dtype") mapfile -t COMPREPLY < <(compgen -W "bf16 fp16 fp32 fp64" -- "$cur"); return ;;
        "llmtool generate:--device") COMPREPLY=(); return ;;
        "llmtool generate:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool verify:--max-kl") COMPREPLY=(); return ;;
        "llmtool verify:--tokens") COMPREPLY=(); return ;;
        "llmtool verify:--length") COMPREPLY=(); return ;;
        "llmtool verify:--seed") COMPREPLY=(); return ;;
        "llmtool verify:--dtype") mapfile -t COMPREPLY < <(compgen -W "bf16 fp16 fp32 fp64" -- "$cur"); return ;;
        "llmtool verify:--device") COMPREPLY=(); return ;;
        "llmtool verify:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer train:--output"|"llmtool tokenizer train:-o") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer train:--vocab-size") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--algorithm") mapfile -t COMPREPLY < <(compgen -W "bpe scaffold lbpe scaffold-lbpe" -- "$cur"); return ;;
        "llmtool tokenizer train:--encoder") mapfile -t COMPREPLY < <(compgen -W "merge lbpe" -- "$cur"); return ;;
        "llmtool tokenizer train:--pretokenizer") mapfile -t COMPREPLY < <(compgen -W "gpt2 cl100k o200k llama3 qwen2 none" -- "$cur"); return ;;
        "llmtool tokenizer train:--special") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--special-position") mapfile -t COMPREPLY < <(compgen -W "first last" -- "$cur"); return ;;
        "llmtool tokenizer train:--min-frequency") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--max-token-bytes") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--length") mapfile -t COMPREPLY < <(compgen -W "bytes characters" -- "$cur"); return ;;
        "llmtool tokenizer train:--ties") mapfile -t COMPREPLY < <(compgen -W "leftmost rank" -- "$cur"); return ;;
        "llmtool tokenizer train:--limit-bytes") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--max-memory") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--field") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--documents") mapfile -t COMPREPLY < <(compgen -W "file line" -- "$cur"); return ;;
        "llmtool tokenizer train:--input-format") mapfile -t COMPREPLY < <(compgen -W "auto text jsonl parquet" -- "$cur"); return ;;
        "llmtool tokenizer train:--threads") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer encode:--output"|"llmtool tokenizer encode:-o") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer encode:--format") mapfile -t COMPREPLY < <(compgen -W "ids jsonl npy bin" -- "$cur"); return ;;
        "llmtool tokenizer encode:--encoder") mapfile -t COMPREPLY < <(compgen -W "merge lbpe" -- "$cur"); return ;;
        "llmtool tokenizer encode:--length") mapfile -t COMPREPLY < <(compgen -W "bytes characters" -- "$cur"); return ;;
        "llmtool tokenizer encode:--ties") mapfile -t COMPREPLY < <(compgen -W "leftmost rank" -- "$cur"); return ;;
        "llmtool tokenizer encode:--field") COMPREPLY=(); return ;;
        "llmtool tokenizer encode:--documents") mapfile -t COMPREPLY < <(compgen -W "file line" -- "$cur"); return ;;
        "llmtool tokenizer encode:--input-format") mapfile -t COMPREPLY < <(compgen -W "auto text jsonl parquet" -- "$cur"); return ;;
        "llmtool tokenizer encode:--threads") COMPREPLY=(); return ;;
        "llmtool tokenizer encode:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer decode:--output"|"llmtool tokenizer decode:-o") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer decode:--documents") mapfile -t COMPREPLY < <(compgen -W "file line" -- "$cur"); return ;;
        "llmtool tokenizer inspect:--encoder") mapfile -t COMPREPLY < <(compgen -W "merge lbpe" -- "$cur"); return ;;
        "llmtool tokenizer inspect:--length") mapfile -t COMPREPLY < <(compgen -W "bytes characters" -- "$cur"); return ;;
        "llmtool tokenizer inspect:--ties") mapfile -t COMPREPLY < <(compgen -W "leftmost rank" -- "$cur"); return ;;
        "llmtool tokenizer compare:--corpus") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer compare:--reference") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer compare:--plot") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer compare:--alpha") COMPREPLY=(); return ;;
        "llmtool tokenizer compare:--rare") COMPREPLY=(); return ;;
        "llmtool tokenizer compare:--field") COMPREPLY=(); return ;;
        "llmtool tokenizer compare:--documents") mapfile -t COMPREPLY < <(compgen -W "file line" -- "$cur"); return ;;
        "llmtool tokenizer compare:--input-format") mapfile -t COMPREPLY < <(compgen -W "auto text jsonl parquet" -- "$cur"); return ;;
        "llmtool tokenizer compare:--threads") COMPREPLY=(); return ;;
        "llmtool tokenizer compare:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer export:--to") mapfile -t COMPREPLY < <(compgen -W "hf tiktoken" -- "$cur"); return ;;
        "llmtool tokenizer export:--encoder") mapfile -t COMPREPLY < <(compgen -W "merge lbpe" -- "$cur"); return ;;
        "llmtool tokenizer export:--length") mapfile -t COMPREPLY < <(compgen -W "bytes characters" -- "$cur"); return ;;
        "llmtool tokenizer export:--ties") mapfile -t COMPREPLY < <(compgen -W "leftmost rank" -- "$cur"); return ;;
        "llmtool tokenizer export:--sample") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling fit:--law") mapfile -t COMPREPLY < <(compgen -W "auto temporal cooldown mpl annealing power shifted log hyperbola" -- "$cur"); return ;;
        "llmtool scaling fit:--metric") COMPREPLY=(); return ;;
        "llmtool scaling fit:--fit-until") COMPREPLY=(); return ;;
        "llmtool scaling fit:--horizon") COMPREPLY=(); return ;;
        "llmtool scaling fit:--schedule") mapfile -t COMPREPLY < <(compgen -W "cosine linear wsd constant" -- "$cur"); return ;;
        "llmtool scaling fit:--peak") COMPREPLY=(); return ;;
        "llmtool scaling fit:--end-lr") COMPREPLY=(); return ;;
        "llmtool scaling fit:--decay") COMPREPLY=(); return ;;
        "llmtool scaling fit:--warmup") COMPREPLY=(); return ;;
        "llmtool scaling fit:--smooth") COMPREPLY=(); return ;;
        "llmtool scaling fit:--target-loss") COMPREPLY=(); return ;;
        "llmtool scaling fit:--every") COMPREPLY=(); return ;;
        "llmtool scaling fit:--max-predicted-loss") COMPREPLY=(); return ;;
        "llmtool scaling fit:--plot") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling fit:--output"|"llmtool scaling fit:-o") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling fit:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling predict:--at") COMPREPLY=(); return ;;
        "llmtool scaling predict:--schedule") mapfile -t COMPREPLY < <(compgen -W "cosine linear wsd constant" -- "$cur"); return ;;
        "llmtool scaling predict:--schedule-of") COMPREPLY=(); return ;;
        "llmtool scaling predict:--peak") COMPREPLY=(); return ;;
        "llmtool scaling predict:--end-lr") COMPREPLY=(); return ;;
        "llmtool scaling predict:--decay") COMPREPLY=(); return ;;
        "llmtool scaling predict:--warmup") COMPREPLY=(); return ;;
        "llmtool scaling predict:--horizon") COMPREPLY=(); return ;;
        "llmtool scaling backtest:--law") mapfile -t COMPREPLY < <(compgen -W "auto temporal cooldown mpl annealing power shifted log hyperbola" -- "$cur"); return ;;
        "llmtool scaling backtest:--metric") COMPREPLY=(); return ;;
        "llmtool scaling backtest:--fit-until") COMPREPLY=(); return ;;
        "llmtool scaling backtest:--warmup") COMPREPLY=(); return ;;
        "llmtool scaling backtest:--smooth") COMPREPLY=(); return ;;
        "llmtool scaling backtest:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling compare:--law") mapfile -t COMPREPLY < <(compgen -W "auto temporal cooldown mpl annealing power shifted log hyperbola" -- "$cur"); return ;;
        "llmtool scaling compare:--metric") COMPREPLY=(); return ;;
        "llmtool scaling compare:--fit-until") COMPREPLY=(); return ;;
        "llmtool scaling compare:--horizon") COMPREPLY=(); return ;;
        "llmtool scaling compare:--schedule") mapfile -t COMPREPLY < <(compgen -W "cosine linear wsd constant" -- "$cur"); return ;;
        "llmtool scaling compare:--peak") COMPREPLY=(); return ;;
        "llmtool scaling compare:--end-lr") COMPREPLY=(); return ;;
        "llmtool scaling compare:--decay") COMPREPLY=(); return ;;
        "llmtool scaling compare:--warmup") COMPREPLY=(); return ;;
        "llmtool scaling compare:--smooth") COMPREPLY=(); return ;;
        "llmtool scaling compare:--plot") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling compare:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling positions:--metric") COMPREPLY=(); return ;;
        "llmtool scaling positions:--fit-until") COMPREPLY=(); return ;;
        "llmtool scaling positions:--horizon") COMPREPLY=(); return ;;
        "llmtool scaling positions:--plot") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool scaling law:--law") mapfile -t COMPREPLY < <(compgen -W "chinchilla kaplan data-constrained critical-batch" -- "$cur"); return ;;
        "llmtool scaling law:--bootstrap") COMPREPLY=(); return ;;
        "llmtool scaling law:--compute") COMPREPLY=(); return ;;
        "llmtool scaling law:--seed") COMPREPLY=(); return ;;
        "llmtool scaling law:--plot") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool convert inspect:--context") COMPREPLY=(); return ;;
        "llmtool convert copy:--dtype") mapfile -t COMPREPLY < <(compgen -W "bf16 fp16 fp32 fp64" -- "$cur"); return ;;
        "llmtool convert copy:--max-shard-size") COMPREPLY=(); return ;;
        "llmtool convert copy:--config") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool convert export:--dtype") mapfile -t COMPREPLY < <(compgen -W "bf16 fp16 fp32 fp64" -- "$cur"); return ;;
        "llmtool bench compile:--arch") COMPREPLY=(); return ;;
        "llmtool bench tokenizer:--task") mapfile -t COMPREPLY < <(compgen -W "encode train hostile" -- "$cur"); return ;;
        "llmtool bench tokenizer:--threads") COMPREPLY=(); return ;;
        "llmtool bench tokenizer:--repeats") COMPREPLY=(); return ;;
        "llmtool bench tokenizer:--only") COMPREPLY=(); return ;;
        "llmtool bench tokenizer:--pretokenizer") mapfile -t COMPREPLY < <(compgen -W "gpt2 cl100k o200k llama3 qwen2" -- "$cur"); return ;;
        "llmtool bench tokenizer:--keep") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    esac
    local words=""
    case "$path" in
        "llmtool") [[ $cur == -* ]] && words="--version --help -h" || words="methods doctor generate verify tokenizer scaling convert bench" ;;
        "llmtool methods") [[ $cur == -* ]] && words="--json --help -h" || words="" ;;
        "llmtool doctor") [[ $cur == -* ]] && words="--json --help -h" || words="" ;;
        "llmtool generate") [[ $cur == -* ]] && words="--max-tokens --temperature --top-k --top-p --seed --ignore-eos --ids --dtype --device --compile --no-compile --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool verify") [[ $cur == -* ]] && words="--max-kl --tokens --length --ids --seed --dtype --device --json --quiet -q --config --help -h" || words="" ;;
        "llmtool tokenizer") [[ $cur == -* ]] && words="--help -h" || words="train encode decode inspect compare export" ;;
        "llmtool tokenizer train") [[ $cur == -* ]] && words="--output -o --vocab-size --algorithm --encoder --pretokenizer --special --special-position --min-frequency --max-token-bytes --length --ties --limit-bytes --max-memory --field --documents --input-format --strict --threads --force --dry-run --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool tokenizer encode") [[ $cur == -* ]] && words="--output -o --format --eos --offsets --allow-special --encoder --length --ties --field --documents --input-format --strict --threads --force --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool tokenizer decode") [[ $cur == -* ]] && words="--output -o --documents --force --help -h" || words="" ;;
        "llmtool tokenizer inspect") [[ $cur == -* ]] && words="--encoder --length --ties --json --help -h" || words="" ;;
        "llmtool tokenizer compare") [[ $cur == -* ]] && words="--corpus --reference --plot --force --alpha --rare --field --documents --input-format --strict --threads --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool tokenizer export") [[ $cur == -* ]] && words="--to --encoder --length --ties --sample --force --json --quiet -q --help -h" || words="" ;;
        "llmtool scaling") [[ $cur == -* ]] && words="--help -h" || words="fit predict backtest compare positions law" ;;
        "llmtool scaling fit") [[ $cur == -* ]] && words="--law --metric --fit-until --horizon --schedule --peak --end-lr --decay --warmup --smooth --joint --target-loss --follow --every --require-confident --max-predicted-loss --plot --output -o --force --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool scaling predict") [[ $cur == -* ]] && words="--at --schedule --schedule-of --peak --end-lr --decay --warmup --horizon --json --help -h" || words="" ;;
        "llmtool scaling backtest") [[ $cur == -* ]] && words="--law --metric --fit-until --warmup --smooth --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool scaling compare") [[ $cur == -* ]] && words="--law --metric --fit-until --horizon --schedule --peak --end-lr --decay --warmup --smooth --plot --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool scaling positions") [[ $cur == -* ]] && words="--metric --fit-until --horizon --plot --json --help -h" || words="" ;;
        "llmtool scaling law") [[ $cur == -* ]] && words="--law --bootstrap --compute --seed --plot --json --help -h" || words="" ;;
        "llmtool convert") [[ $cur == -* ]] && words="--help -h" || words="inspect copy export" ;;
        "llmtool convert inspect") [[ $cur == -* ]] && words="--context --json --help -h" || words="" ;;
        "llmtool convert copy") [[ $cur == -* ]] && words="--dtype --max-shard-size --force --dry-run --json --quiet -q --config --help -h" || words="" ;;
        "llmtool convert export") [[ $cur == -* ]] && words="--dtype --force --json --quiet -q --help -h" || words="" ;;
        "llmtool bench") [[ $cur == -* ]] && words="--help -h" || words="compile tokenizer" ;;
        "llmtool bench compile") [[ $cur == -* ]] && words="--arch --first --check --json --quiet -q --help -h" || words="" ;;
        "llmtool bench tokenizer") [[ $cur == -* ]] && words="--task --threads --repeats --only --pretokenizer --keep --json --quiet -q --help -h" || words="" ;;
    esac
    if [[ -n $words ]]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    else mapfile -t COMPREPLY < <(compgen -f -- "$cur"); fi
}
complete -o filenames -o bashdefault -F _llmtool llmtool
