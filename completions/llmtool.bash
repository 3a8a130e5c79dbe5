# bash completion for llmtool; generated, do not edit
_llmtool() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path=llmtool i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
            "llmtool methods"|"llmtool doctor"|"llmtool tokenizer"|"llmtool tokenizer train"|"llmtool tokenizer encode"|"llmtool tokenizer decode"|"llmtool tokenizer inspect"|"llmtool tokenizer compare"|"llmtool tokenizer export") path="$path ${COMP_WORDS[i]}" ;;
        esac
    done
    case "$path:$prev" in
        "llmtool tokenizer train:--output"|"llmtool tokenizer train:-o") mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        "llmtool tokenizer train:--vocab-size") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--algorithm") mapfile -t COMPREPLY < <(compgen -W "bpe scaffold lbpe scaffold-lbpe" -- "$cur"); return ;;
        "llmtool tokenizer train:--encoder") mapfile -t COMPREPLY < <(compgen -W "merge lbpe" -- "$cur"); return ;;
        "llmtool tokenizer train:--pretokenizer") mapfile -t COMPREPLY < <(compgen -W "gpt2 cl100k o200k llama3 qwen2 none" -- "$cur"); return ;;
        "llmtool tokenizer train:--special") COMPREPLY=(); return ;;
        "llmtool tokenizer train:--special-position") mapfile -t COMPREPLY < <(compgen -W "first last" -- "$cur"); return ;;
        "llmtool tokenizer train:--min-frequency") COMPREPLY=(); return ;;
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
    esac
    local words=""
    case "$path" in
        "llmtool") [[ $cur == -* ]] && words="--version --help -h" || words="methods doctor tokenizer" ;;
        "llmtool methods") [[ $cur == -* ]] && words="--json --help -h" || words="" ;;
        "llmtool doctor") [[ $cur == -* ]] && words="--json --help -h" || words="" ;;
        "llmtool tokenizer") [[ $cur == -* ]] && words="--help -h" || words="train encode decode inspect compare export" ;;
        "llmtool tokenizer train") [[ $cur == -* ]] && words="--output -o --vocab-size --algorithm --encoder --pretokenizer --special --special-position --min-frequency --length --ties --limit-bytes --max-memory --field --documents --input-format --strict --threads --force --dry-run --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool tokenizer encode") [[ $cur == -* ]] && words="--output -o --format --eos --offsets --allow-special --encoder --length --ties --field --documents --input-format --strict --threads --force --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool tokenizer decode") [[ $cur == -* ]] && words="--output -o --documents --force --help -h" || words="" ;;
        "llmtool tokenizer inspect") [[ $cur == -* ]] && words="--encoder --length --ties --json --help -h" || words="" ;;
        "llmtool tokenizer compare") [[ $cur == -* ]] && words="--corpus --reference --plot --alpha --rare --field --documents --input-format --strict --threads --json --quiet -q --verbose -v --config --help -h" || words="" ;;
        "llmtool tokenizer export") [[ $cur == -* ]] && words="--to --encoder --length --ties --sample --force --json --quiet -q --help -h" || words="" ;;
    esac
    if [[ -n $words ]]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    else mapfile -t COMPREPLY < <(compgen -f -- "$cur"); fi
}
complete -o filenames -o bashdefault -F _llmtool llmtool
