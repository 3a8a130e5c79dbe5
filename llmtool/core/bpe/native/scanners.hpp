// Every scanner by the name of its pre-tokenizer.
#pragma once
#include "scan_others.hpp"

namespace llmtool {

enum class Pretokenizer {
  kWholeDocument, kGpt2, kCl100k, kO200k, kLlama3, kQwen2, kSmolLm, kQwen35, kTekken, kDeepSeek3, kNanochat, kKimi,
  kFalcon, kBloom, kMetaspace
};
inline constexpr const char* kPretokenizers[] = {
    "none",   "gpt2",      "cl100k",   "o200k", "llama3", "qwen2", "smollm",   "qwen35",
    "tekken", "deepseek3", "nanochat", "kimi",  "falcon", "bloom", "metaspace"};

inline Pretokenizer pretokenizer_named(const std::string& name) {
  const auto found = std::find(std::begin(kPretokenizers), std::end(kPretokenizers), name);
  if (found == std::end(kPretokenizers)) throw std::invalid_argument("unknown pre-tokenizer: " + name);
  return static_cast<Pretokenizer>(found - std::begin(kPretokenizers));
}

// visit(Scanner{}) with the scanner's type: the choice is made once a document, not once a piece.
template <class Visit>
decltype(auto) with_scanner(Pretokenizer pretokenizer, Visit&& visit) {
  switch (pretokenizer) {
    case Pretokenizer::kWholeDocument: return visit(WholeDocument{});
    case Pretokenizer::kGpt2: return visit(Gpt2{});
    case Pretokenizer::kO200k: return visit(O200k{});
    case Pretokenizer::kQwen2: return visit(Qwen2{});
    case Pretokenizer::kSmolLm: return visit(Gpt2Like<true>{});
    case Pretokenizer::kQwen35: return visit(Qwen35{});
    case Pretokenizer::kTekken: return visit(Tekken{});
    case Pretokenizer::kDeepSeek3: return visit(DeepSeek3{});
    case Pretokenizer::kNanochat: return visit(Cl100kLike<2>{});
    case Pretokenizer::kKimi: return visit(Kimi{});
    case Pretokenizer::kFalcon: return visit(Falcon{});
    case Pretokenizer::kBloom: return visit(Bloom{});
    case Pretokenizer::kMetaspace: return visit(Metaspace{});
    case Pretokenizer::kCl100k:
    case Pretokenizer::kLlama3: break;  // both publish the same pattern
  }
  return visit(Cl100k{});
}

}  // namespace llmtool
