"""What each shell runs where a word of kdx is to be completed."""

from __future__ import annotations

# The words come from the kdx that is being typed, so that each clone answers from its own conf/. KDX_NO_SETUP
# keeps ./scripts/kdx from building an environment because somebody pressed TAB. Bash splits words at the
# characters of COMP_WORDBREAKS (`=` is one), so the whole line is handed over. A reply that needs no more
# ends in a space.
BASH = r"""_kdx() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(KDX_NO_SETUP=1 KDX_WORDBREAKS="$COMP_WORDBREAKS" "${1/#\~/$HOME}" completion words "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o nospace -o default -F _kdx kdx"""  # noqa: E501

# zsh and fish replace whole words, and say by themselves what is quoted; of key=PATH the key has to be told
# from the name of a file, which bash does by COMP_WORDBREAKS.
ZSH = r"""_kdx() {
    local reply
    local -a whole open
    for reply in "${(@f)$(KDX_NO_SETUP=1 KDX_WORDBREAKS= "${words[1]/#\~/$HOME}" completion words "${(j: :)words[1,CURRENT-1]} ${(Q)PREFIX}" 2>/dev/null)}"; do
        if [[ $reply == *' ' ]]; then whole+=("${reply% }"); elif [[ -n $reply ]]; then open+=("$reply"); fi
    done
    (( $#whole )) && compadd -- "${whole[@]}"
    (( $#open )) && compadd -S '' -- "${open[@]}"
    (( $#whole + $#open )) && return
    compset -P '[^=]#='
    _files
}
compdef _kdx kdx"""  # noqa: E501
FISH = r"""function __kdx_words
    set -l kdx (string replace -r '^~' $HOME (commandline -opc)[1])
    set -l line (commandline -cp | string collect)
    set -l found (env KDX_NO_SETUP=1 KDX_WORDBREAKS= $kdx completion words "$line" 2>/dev/null)
    if test (count $found) -gt 0
        string trim --right -- $found
        return
    end
    set -l token (commandline -ct)
    set -l key (string match -r '^[^=]+=' -- $token)
    set -l path (string sub -s (math (string length -- "$key") + 1) -- "$token")
    for place in (__fish_complete_path "$path")
        echo -- "$key$place"
    end
end
complete -c kdx -f -a '(__kdx_words)'"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
