// Coverage-guided fuzzing of everything that hostile input reaches: tokenizer files, text, and training.
//
// The first byte chooses the target, the next ones its settings. Besides what the sanitizers find, every result is
// checked: against a literal merge loop, against the bytes that were encoded, or against other threads and spilling.
#include <cstdio>
#include <map>
#include <optional>
#include <set>

#include "added.hpp"
#include "count.hpp"
#include "ids.hpp"
#include "numbering.hpp"
#include "policy_scaffold.hpp"
#include "train.hpp"

using namespace llmtool;

namespace {

void require(bool truth, const char* what) {
  if (truth) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::abort();
}

// Caches that grow at once and overflow all the time.
constexpr CacheSizes kSmall{3, 3, 2, 20, 200, 1};

class Input {
 public:
  Input(const uint8_t* data, size_t size) : p_(data), end_(data + size) {}
  uint8_t byte() { return p_ < end_ ? *p_++ : 0; }
  uint32_t number() { return byte() | uint32_t{byte()} << 8; }
  std::vector<uint8_t> bytes(size_t n) {
    n = std::min<size_t>(n, end_ - p_);
    p_ += n;
    return {p_ - n, p_};
  }
  std::vector<uint8_t> rest() { return bytes(SIZE_MAX); }
  bool empty() const { return p_ == end_; }

 private:
  const uint8_t *p_, *end_;
};

std::vector<std::vector<uint8_t>> byte_units() {
  std::vector<std::vector<uint8_t>> units;
  for (int b = 0; b < 256; ++b) units.push_back({static_cast<uint8_t>(b)});
  return units;
}

std::unique_ptr<Vocabulary> vocabulary_of(const std::vector<std::vector<uint8_t>>& units) {
  std::vector<uint8_t> bytes;
  std::vector<uint64_t> ends, emit_ends;
  std::vector<uint32_t> emit;
  for (const auto& unit : units) {
    bytes.insert(bytes.end(), unit.begin(), unit.end());
    ends.push_back(bytes.size());
    emit.push_back(static_cast<uint32_t>(emit.size()));
    emit_ends.push_back(emit.size());
  }
  return std::make_unique<Vocabulary>(std::move(bytes), std::move(ends), std::move(emit), std::move(emit_ends));
}

// An exact copy on the heap: a read of one byte too many is found.
struct Exact {
  explicit Exact(const std::vector<uint8_t>& bytes) : data(new uint8_t[bytes.size()]), ends{bytes.size()} {
    std::copy(bytes.begin(), bytes.end(), data.get());
  }
  std::unique_ptr<uint8_t[]> data;
  std::vector<uint64_t> ends;
  Documents documents() const { return {data.get(), ends}; }
};

std::vector<uint32_t> encode(Encoder& encoder, const Documents& documents, unsigned threads, std::vector<uint64_t>& ends) {
  std::vector<uint32_t> ids((documents.ends.empty() ? 0 : documents.ends.back()) + kOutputSlack);
  ends.assign(documents.ends.size(), 0);
  ids.resize(encoder.encode(documents, threads, ids.data(), ends.data()));
  return ids;
}

std::vector<uint32_t> encode(Encoder& encoder, const std::vector<uint8_t>& text) {
  const Exact exact(text);
  std::vector<uint64_t> ends;
  std::vector<uint32_t> ids = encode(encoder, exact.documents(), 1, ends);
  require(ends[0] == ids.size(), "the end of the ids");
  require(encode(encoder, exact.documents(), 1, ends) == ids, "the second time, from the cache");
  return ids;
}

std::vector<uint32_t> merge_literally(const std::vector<uint8_t>& text, const std::vector<Merge>& merges) {
  std::vector<uint32_t> units(text.begin(), text.end());
  for (;;) {
    size_t rank = merges.size(), at = 0;
    for (size_t i = 0; i + 1 < units.size(); ++i) {
      for (size_t r = 0; r < rank; ++r) {
        if (merges[r].left == units[i] && merges[r].right == units[i + 1]) rank = r, at = i;
      }
    }
    if (rank == merges.size()) return units;
    units[at] = merges[rank].result;
    units.erase(units.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

// An encoder of the tables that `state` was written of, as module.cpp makes one of a cache entry.
std::unique_ptr<Encoder> restored(const std::vector<uint8_t>& state) {
  StateReader reader(state.data(), state.size());
  uint32_t form = 0, kind = 0;
  reader(form), reader(kind);
  auto vocabulary = std::make_unique<Vocabulary>(reader);
  auto encoder = std::make_unique<EncoderWith<MergePolicy>>(kSmall, Pretokenizer::kWholeDocument, std::move(vocabulary), reader);
  if (!reader.at_end()) throw std::invalid_argument("state: too long");
  return encoder;
}

// Tables that were written are read as they were; cut short, with bytes too many or with any length in them they are
// refused, or read: what tables hold is vouched for by the digest of their file, so nothing is encoded by those.
void check_state(Encoder& encoder, const std::vector<uint8_t>& text, Input& input) {
  std::vector<uint8_t> state = encoder.state();
  const std::unique_ptr<Encoder> again = restored(state);
  require(encode(*again, text) == encode(encoder, text), "the ids of tables that were kept");
  require(again->state() == state, "the state of tables that were kept");
  const size_t at = (input.number() | size_t{input.byte()} << 16) % state.size();
  bool refused = false;
  try {
    restored({state.begin(), state.begin() + static_cast<std::ptrdiff_t>(at)});
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  require(refused, "tables cut short are refused");
  const std::vector<uint8_t> bytes = input.bytes(1 + input.byte() % 12);
  std::copy_n(bytes.begin(), std::min(bytes.size(), state.size() - at), state.begin() + static_cast<std::ptrdiff_t>(at));
  try {
    restored(state);
  } catch (const std::invalid_argument&) {
  }
}

// Well-formed merge lists of any order, as a literal loop encodes; and LBPE over the same units.
void any_merges(Input& input) {
  std::vector<std::vector<uint8_t>> units = byte_units();
  std::map<std::vector<uint8_t>, uint32_t> number;
  for (uint32_t u = 0; u < units.size(); ++u) number[units[u]] = u;
  std::vector<Merge> merges;
  std::map<std::pair<uint32_t, uint32_t>, bool> seen;
  for (unsigned count = input.byte() % 24; count; --count) {
    const uint32_t left = input.number() % units.size(), right = input.number() % units.size();
    std::vector<uint8_t> spelled = units[left];
    spelled.insert(spelled.end(), units[right].begin(), units[right].end());
    if (spelled.size() > 16 || !seen.try_emplace({left, right}).second) continue;
    const auto [found, is_new] = number.try_emplace(spelled, static_cast<uint32_t>(units.size()));
    if (is_new) units.push_back(spelled);
    merges.push_back({left, right, found->second});
  }
  for (unsigned swaps = input.byte() % 8; swaps && merges.size() > 1; --swaps) {
    std::swap(merges[input.byte() % merges.size()], merges[input.byte() % merges.size()]);
  }
  const std::vector<uint8_t> text = input.bytes(200);
  EncoderWith<MergePolicy> merging(kSmall, Pretokenizer::kWholeDocument, vocabulary_of(units), merges, false);
  require(encode(merging, text) == merge_literally(text, merges), "the merge loop");
  check_state(merging, text, input);
  EncoderWith<LbpePolicy> longest(kSmall, Pretokenizer::kWholeDocument, vocabulary_of(units), std::vector<uint32_t>{}, false);
  std::vector<uint32_t> order;
  for (const auto& unit : units) order.push_back(1000 - static_cast<uint32_t>(unit.size()));
  EncoderWith<LbpePolicy> ordered(kSmall, Pretokenizer::kWholeDocument, vocabulary_of(units), order, false);
  require(encode(longest, text) == encode(ordered, text), "both ways of LBPE");
}

// Whatever a hostile tokenizer file can bring here: it is refused, or it encodes.
void any_file(Input& input) {
  std::vector<uint8_t> bytes;
  std::vector<uint64_t> ends, emit_ends;
  std::vector<uint32_t> emit;
  if (input.byte() & 1) {
    for (int b = 0; b < 256; ++b) bytes.push_back(static_cast<uint8_t>(b)), ends.push_back(bytes.size());
  }
  for (unsigned count = input.byte(); count && !input.empty(); --count) {
    for (const uint8_t b : input.bytes(input.byte() % 9)) bytes.push_back(b);
    const uint8_t kind = input.byte();
    ends.push_back(kind == 255 ? input.number() * 0x1000100010001ull : bytes.size());
  }
  for (size_t u = 0; u < ends.size(); ++u) {
    emit.push_back(input.number());
    emit_ends.push_back(u % 64 == 63 ? input.number() : emit.size());
  }
  std::vector<Merge> merges;
  for (unsigned count = input.byte(); count && !input.empty(); --count) {
    merges.push_back({input.number(), input.number(), input.number()});
  }
  const bool ignore_merges = input.byte() & 1, lbpe = input.byte() & 1;
  const std::vector<uint8_t> text = input.rest();
  try {
    auto vocabulary = std::make_unique<Vocabulary>(bytes, ends, emit, emit_ends);
    std::unique_ptr<Encoder> encoder;
    if (lbpe) {
      encoder = std::make_unique<EncoderWith<LbpePolicy>>(kSmall, Pretokenizer::kGpt2, std::move(vocabulary), emit, ignore_merges);
    } else {
      encoder = std::make_unique<EncoderWith<MergePolicy>>(kSmall, Pretokenizer::kGpt2, std::move(vocabulary), merges, ignore_merges);
    }
    encode(*encoder, text);
  } catch (const std::invalid_argument&) {
  }
}

// Any text through any pre-tokenizer and trained units: the units spell the text, however many threads.
void any_text(Input& input) {
  static const auto trained = [] {
    std::vector<uint8_t> text;
    for (int i = 0; i < 3000; ++i) text.push_back(static_cast<uint8_t>("the fox  sat\n\xC3\xA9\xE6\xBC\xA2 don't 123aaaa"[i * i % 32]));
    std::vector<uint8_t> order(256);
    for (int b = 0; b < 256; ++b) order[b] = static_cast<uint8_t>(b);
    PieceCounter counter(Pretokenizer::kLlama3, 1, 0, "");
    const Exact exact(text);
    counter.add(exact.documents());
    return train<BpePolicy>(TrainingCorpus(counter, order), Limits{400, 1, 64}, nullptr);
  }();
  std::vector<std::vector<uint8_t>> units = byte_units();
  std::vector<Merge> merges;
  for (size_t i = 0; i < trained.merges.size(); i += 3) {
    merges.push_back({trained.merges[i], trained.merges[i + 1], trained.merges[i + 2]});
    std::vector<uint8_t> spelled = units[trained.merges[i]];
    spelled.insert(spelled.end(), units[trained.merges[i + 1]].begin(), units[trained.merges[i + 1]].end());
    units.push_back(spelled);
  }
  const auto pretokenizer = static_cast<Pretokenizer>(input.byte() % std::size(kPretokenizers));
  static std::map<Pretokenizer, std::unique_ptr<Encoder>> merging, longest;
  if (!merging[pretokenizer]) {
    merging[pretokenizer] =
        std::make_unique<EncoderWith<MergePolicy>>(kSmall, pretokenizer, vocabulary_of(units), merges, false);
    longest[pretokenizer] =
        std::make_unique<EncoderWith<LbpePolicy>>(kSmall, pretokenizer, vocabulary_of(units), std::vector<uint32_t>{}, false);
  }
  const unsigned threads = input.byte() % 3 + 1, repeats = input.byte() % 64 ? 1 : 1000;
  std::vector<uint8_t> text = input.rest();
  for (Encoder* const encoder : {merging[pretokenizer].get(), longest[pretokenizer].get()}) {
    const std::vector<uint32_t> ids = encode(*encoder, text);
    std::vector<uint8_t> spelled;
    for (const uint32_t id : ids) spelled.insert(spelled.end(), units[id].begin(), units[id].end());
    require(spelled == text, "the units spell the text");
    if (repeats == 1 || text.size() > 300) continue;
    std::vector<uint8_t> many;
    std::vector<uint64_t> ends, id_ends;
    for (unsigned i = 0; i < repeats; ++i) many.insert(many.end(), text.begin(), text.end()), ends.push_back(many.size());
    const std::vector<uint32_t> all = encode(*encoder, {many.data(), ends}, threads, id_ends);
    require(all.size() == ids.size() * repeats && std::equal(ids.begin(), ids.end(), all.end() - ids.size()), "threads");
    require(format_ids(all, id_ends).size() >= repeats, "lines of ids");
  }
}

// Any corpus: the same merges whatever the memory and the threads.
void any_training(Input& input) {
  std::vector<uint8_t> order(256);
  const uint8_t shift = input.byte();
  for (int b = 0; b < 256; ++b) order[b] = static_cast<uint8_t>(b ^ shift);
  const auto pretokenizer = static_cast<Pretokenizer>(input.byte() % std::size(kPretokenizers));
  const uint64_t size = 256 + input.byte(), least = input.byte() % 4;
  const uint8_t kind = input.byte();
  const bool scaffold = kind & 1;
  const uint64_t longest = kind & 2 ? 1024 : 2 + (kind >> 4);
  const std::vector<uint8_t> text = input.rest();
  const Exact exact(text);
  std::vector<uint32_t> merges;
  for (const size_t budget : {size_t{0}, size_t{1}}) {
    PieceCounter counter(pretokenizer, 1 + budget, budget, "");
    counter.add(exact.documents());
    counter.add(exact.documents());
    TrainingCorpus corpus(counter, order);
    const Limits limits{size, least, longest};
    const Trained trained = scaffold ? train<ScaffoldPolicy>(std::move(corpus), limits, nullptr)
                                     : train<BpePolicy>(std::move(corpus), limits, nullptr);
    require(trained.merges.size() == 3 * trained.frequencies.size(), "a frequency for each merge");
    require(trained.scaffold.size() == 256 + trained.frequencies.size(), "a mark for each unit");
    require(budget == 0 || trained.merges == merges, "the same when counts spill");
    merges = trained.merges;
  }
}

// Alphabets that do not know every symbol: characters, bytes that stand in for them, one unit for all others.
void any_alphabet(Input& input) {
  const uint8_t kind = input.byte();
  const bool characters = kind & 1, lbpe = kind & 2, ignore_merges = kind & 4;
  std::vector<uint8_t> bytes;
  std::vector<uint64_t> ends, emit_ends;
  std::vector<uint32_t> emit;
  const auto add = [&](const std::vector<uint8_t>& unit, unsigned ids) {
    bytes.insert(bytes.end(), unit.begin(), unit.end());
    ends.push_back(bytes.size());
    for (; ids; --ids) emit.push_back(static_cast<uint32_t>(ends.size()));
    emit_ends.push_back(emit.size());
  };
  for (unsigned count = input.byte() % 32; count; --count) add(input.bytes(1 + input.byte() % 4), 1);
  const size_t known = ends.size();
  for (int b = 0; b < 256; ++b) add({static_cast<uint8_t>(b)}, 1);
  for (unsigned count = input.byte() % 4; count; --count) add({}, input.byte() % 3);
  Unknown unknown;
  if (kind & 8) {
    for (int b = 0; b < 256; ++b) unknown.byte_units.push_back(kind & 16 ? static_cast<uint32_t>(known + b) : input.number());
  }
  if (kind & 32) unknown.unit = input.number() % 400;
  unknown.fuse = kind & 64;
  std::vector<Merge> merges;
  for (unsigned count = input.byte() % 16; count; --count) merges.push_back({input.byte(), input.byte(), input.byte()});
  const std::vector<uint8_t> text = input.rest();
  try {
    auto vocabulary = std::make_unique<Vocabulary>(bytes, ends, emit, emit_ends, characters, known, unknown);
    std::unique_ptr<Encoder> encoder;
    if (lbpe) {
      encoder = std::make_unique<EncoderWith<LbpePolicy>>(kSmall, Pretokenizer::kLlama3, std::move(vocabulary),
                                                          std::vector<uint32_t>{}, ignore_merges);
    } else {
      encoder = std::make_unique<EncoderWith<MergePolicy>>(kSmall, Pretokenizer::kLlama3, std::move(vocabulary), merges, ignore_merges);
    }
    require(encode(*encoder, text).size() <= text.size(), "no more ids than bytes");
  } catch (const std::invalid_argument&) {
  }
}

// Any added tokens: what is cut out and what is left are the text; layouts of others are refused, or joined.
void any_added(Input& input) {
  std::vector<uint8_t> bytes, flags;
  std::vector<uint64_t> ends;
  std::vector<uint32_t> numbers;
  const uint8_t kept = input.byte();  // which flags are in use: none of them takes white space along, mostly
  for (unsigned count = input.byte() % 16; count; --count) {
    for (const uint8_t b : input.bytes(input.byte() % 6)) bytes.push_back(b);
    ends.push_back(bytes.size());
    flags.push_back(input.byte() & (kept & 1 ? 7 : 1));
    numbers.push_back(static_cast<uint32_t>(1000 + numbers.size()));
  }
  const bool allow = kept & 2;
  std::vector<uint64_t> text_ends;
  std::vector<uint8_t> text = input.bytes(300);
  uint64_t at = 0;
  for (unsigned documents = input.byte() % 8; documents && (at += input.byte()) < text.size(); --documents) text_ends.push_back(at);
  text_ends.push_back(text.size());
  const Exact exact(text);
  std::optional<AddedTokens> tokens;
  try {
    tokens.emplace(bytes, ends, numbers, flags);
  } catch (const std::invalid_argument&) {
    return;
  }
  const Segments segments = tokens->cut(exact.data.get(), text_ends, allow);
  const Joined joined = join({segments.text.begin(), segments.text.end()}, segments.ends, segments.layout);
  require(joined.ends.size() == text_ends.size(), "an end for each document");
  if (!(kept & 1)) {
    std::vector<uint8_t> whole;
    std::vector<uint64_t> whole_ends;
    size_t document = 0;
    for (size_t i = 0; i <= joined.ids.size(); ++i) {
      for (; document < joined.ends.size() && joined.ends[document] == i; ++document) whole_ends.push_back(whole.size());
      if (i == joined.ids.size()) break;
      const uint32_t id = joined.ids[i];
      if (id < 256) {
        whole.push_back(static_cast<uint8_t>(id));
      } else {
        require(allow || !(flags[id - 1000] & AddedTokens::kSpecial), "a special token that is not allowed");
        const uint64_t begin = id > 1000 ? ends[id - 1001] : 0;
        whole.insert(whole.end(), bytes.begin() + static_cast<ptrdiff_t>(begin), bytes.begin() + static_cast<ptrdiff_t>(ends[id - 1000]));
      }
    }
    require(whole == text && whole_ends == text_ends, "segments and tokens are the text");
  }
  std::vector<uint32_t> layout, other;
  const auto part = [](uint8_t b) { return b < 100 ? kSegment : b < 200 ? kEndOfDocument : uint32_t{b}; };
  for (const uint8_t b : input.bytes(40)) layout.push_back(part(b));
  for (const uint8_t b : input.bytes(40)) other.push_back(part(b));
  std::vector<uint64_t> any_ends;
  for (const uint8_t b : input.rest()) any_ends.push_back(b == 255 ? UINT64_MAX : b);
  try {
    nest(layout, other);
  } catch (const std::invalid_argument&) {
  }
  try {
    join(layout, any_ends, other);
  } catch (const std::invalid_argument&) {
  }
}

// Any text, every scanner: pieces go on, and end where the text ends.
void any_scanner(Input& input) {
  const Exact exact(input.rest());
  const uint8_t* const begin = exact.data.get();
  const Text document{begin + exact.ends[0], begin + exact.ends[0], begin};
  for (size_t kind = 0; kind < std::size(kPretokenizers); ++kind) {
    with_scanner(static_cast<Pretokenizer>(kind), [&](auto scanner) {
      for (const uint8_t* p = begin; p < document.end;) {
        const uint8_t* const next = scanner.next(p, document);
        require(next > p && next <= document.end, "a piece of one byte at least, within the text");
        p = next;
      }
    });
  }
}

// Any texts and pairs: each triple joins two texts into the one that it names, and none that could be numbered is lost.
void any_numbering(Input& input) {
  std::vector<std::string> parts;
  while (!input.empty() && parts.size() < 64) {
    const std::vector<uint8_t> part = input.bytes(input.byte() % 5);
    parts.emplace_back(part.begin(), part.end());
  }
  const size_t half = parts.size() / 2;
  const std::vector<std::string_view> texts(parts.begin(), parts.begin() + static_cast<ptrdiff_t>(half));
  std::vector<TextPair> pairs;
  for (size_t i = half; i + 1 < parts.size(); i += 2) pairs.emplace_back(parts[i], parts[i + 1]);
  const auto known = [&](const std::string& text) { return std::find(texts.begin(), texts.end(), text) != texts.end(); };
  bool plain = std::set<TextPair>(pairs.begin(), pairs.end()).size() == pairs.size();
  for (const auto& [left, right] : pairs) {
    plain &= known(std::string(left)) && known(std::string(right)) && known(std::string(left) + std::string(right));
  }
  const auto numbers = number_merges(texts, pairs);
  require(numbers.has_value() == plain, "numbered as far as it can be");
  for (size_t i = 0; numbers && i < pairs.size(); ++i) {
    const uint32_t* const triple = numbers->data() + 3 * i;
    require(texts[triple[0]] == pairs[i].first && texts[triple[1]] == pairs[i].second, "parts of a merge");
    require(texts[triple[2]] == std::string(pairs[i].first) + std::string(pairs[i].second), "result of a merge");
  }
  const auto spelled = spell(texts, "");
  require(spelled && spelled->ends.size() == texts.size(), "texts that are their own bytes");
  std::string alphabet;  // the byte b is the character U+0100 + b
  for (int b = 0; b < 256; ++b) alphabet += {static_cast<char>(0xC4 + b / 64), static_cast<char>(0x80 + b % 64)};
  const auto bytes = spell(texts, alphabet);
  require(!bytes || bytes->bytes.size() * 2 == spelled->bytes.size(), "two bytes a character");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  switch (input.byte() % 8) {
    case 0: any_merges(input); break;
    case 1: any_file(input); break;
    case 2: any_text(input); break;
    case 3: any_numbering(input); break;
    case 4: any_alphabet(input); break;
    case 5: any_added(input); break;
    case 6: any_scanner(input); break;
    default: any_training(input);
  }
  return 0;
}
