// llmtool.core.bpe._engine: the Python face of the engine; its types are documented in _engine.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <optional>

#include "added.hpp"
#include "count.hpp"
#include "encoder.hpp"
#include "ids.hpp"
#include "numbering.hpp"
#include "policy_scaffold.hpp"
#include "train.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace llmtool;

namespace {

// A borrowed view of a bytes-like object; its memory stays in place while the view lives, GIL or not.
class BufferView {
 public:
  explicit BufferView(nb::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE)) throw nb::python_error();
  }
  ~BufferView() { PyBuffer_Release(&view_); }
  BufferView(const BufferView&) = delete;
  BufferView& operator=(const BufferView&) = delete;
  const uint8_t* data() const { return static_cast<const uint8_t*>(view_.buf); }
  size_t size() const { return static_cast<size_t>(view_.len); }

 private:
  Py_buffer view_;
};

// The items of a buffer, copied: a buffer from Python need not be aligned.
template <class T>
std::vector<T> items(const BufferView& view, const char* name) {
  if (view.size() % sizeof(T)) throw std::invalid_argument(std::string(name) + ": not a whole number of items");
  std::vector<T> out(view.size() / sizeof(T));
  if (view.size()) std::memcpy(out.data(), view.data(), view.size());
  return out;
}

template <class T>
std::vector<T> items(nb::handle object, const char* name) {
  return items<T>(BufferView(object), name);
}

template <class T>
nb::bytes to_bytes(const std::vector<T>& values) {
  return nb::bytes(values.data(), values.size() * sizeof(T));
}

// The end of each document; together they must be the text.
std::vector<uint64_t> document_ends(nb::handle object, const BufferView& text) {
  std::vector<uint64_t> ends = items<uint64_t>(object, "ends");
  if (!std::is_sorted(ends.begin(), ends.end()) || (ends.empty() ? 0 : ends.back()) != text.size()) {
    throw std::invalid_argument("ends: offsets decrease or do not end where the text ends");
  }
  return ends;
}

nb::bytes split(const std::string& pretokenizer, nb::handle text) {
  const Pretokenizer kind = pretokenizer_named(pretokenizer);
  const BufferView view(text);
  std::vector<uint64_t> ends;
  {
    nb::gil_scoped_release release;
    const uint8_t* const begin = view.data();
    const Text document{begin + view.size(), begin + view.size(), begin};
    with_scanner(kind, [&](auto scanner) {
      for (const uint8_t* p = begin; p < document.end;) {
        p = scanner.next(p, document);
        ends.push_back(p - begin);
      }
    });
  }
  return to_bytes(ends);
}

// A PieceCounter that one call at a time may use: others wait without the GIL.
class CounterHandle {
 public:
  CounterHandle(const std::string& pretokenizer, unsigned threads, size_t max_memory, std::string spill_directory)
      : counter_(pretokenizer_named(pretokenizer), threads, max_memory, std::move(spill_directory)) {}

  void add(nb::handle text, nb::handle ends) {
    const BufferView view(text);
    const std::vector<uint64_t> document_ends_ = document_ends(ends, view);
    nb::gil_scoped_release release;
    const std::lock_guard<std::mutex> lock(mutex_);
    counter_.add({view.data(), document_ends_});
  }

  nb::list items() {
    std::vector<uint8_t> bytes;
    std::vector<std::pair<size_t, uint64_t>> pieces;  // (length, count)
    {
      nb::gil_scoped_release release;
      const std::lock_guard<std::mutex> lock(mutex_);
      counter_.for_each(true, [&](const uint8_t* p, size_t n, uint64_t count) {
        bytes.insert(bytes.end(), p, p + n);
        pieces.emplace_back(n, count);
      });
    }
    nb::list out;
    const uint8_t* p = bytes.data();
    for (const auto& [length, count] : pieces) {
      out.append(nb::make_tuple(nb::bytes(p, length), count));
      p += length;
    }
    return out;
  }

  template <class... Args>
  TrainingCorpus corpus(Args&&... args) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return TrainingCorpus(counter_, std::forward<Args>(args)...);
  }

  const PieceCounter& counter() const { return counter_; }

 private:
  std::mutex mutex_;
  PieceCounter counter_;
};

void check_training_policy(const std::string& policy) {
  if (policy != "bpe" && policy != "scaffold") throw std::invalid_argument("unknown training policy: " + policy);
}

Trained train_by(const std::string& policy, TrainingCorpus corpus, const Limits& limits,
                 const std::function<void(uint64_t)>& report, Filter filter = {}) {
  if (policy == "bpe") return train<BpePolicy>(std::move(corpus), limits, report, std::move(filter));
  return train<ScaffoldPolicy>(std::move(corpus), limits, report, std::move(filter));
}

// Calls a Python function, if there is one, from code without the GIL. The function outlives what is returned.
std::function<void(uint64_t)> reporter(const nb::object& progress) {
  if (progress.is_none()) return {};
  return [&progress](uint64_t normal) {
    nb::gil_scoped_acquire acquire;
    progress(normal);
  };
}

Trained train_with(CounterHandle& handle, const std::string& policy, uint64_t vocab_size, uint64_t min_frequency,
                   uint64_t max_token_bytes, nb::handle byte_order, nb::object progress) {
  const std::vector<uint8_t> order = items<uint8_t>(byte_order, "byte_order");
  std::vector<bool> seen(256);
  for (const uint8_t byte : order) seen[byte] = true;
  if (order.size() != 256 || std::find(seen.begin(), seen.end(), false) != seen.end()) {
    throw std::invalid_argument("byte_order: not each byte once");
  }
  const std::function<void(uint64_t)> report = reporter(progress);
  const Limits limits{vocab_size, min_frequency, max_token_bytes};
  check_training_policy(policy);
  nb::gil_scoped_release release;
  return train_by(policy, handle.corpus(order), limits, report);
}

class EncoderHandle {
 public:
  EncoderHandle(const std::string& pretokenizer, const std::string& policy, nb::handle units, nb::handle unit_ends,
                nb::handle merges, nb::handle emit, nb::handle emit_ends, bool ignore_merges, nb::object order,
                bool characters, nb::object known, nb::object byte_units, nb::object unknown_unit, bool fuse) {
    const Pretokenizer kind = pretokenizer_named(pretokenizer);
    const CacheSizes sizes;
    Unknown unknown;
    if (!byte_units.is_none()) unknown.byte_units = items<uint32_t>(byte_units, "byte_units");
    if (!unknown_unit.is_none()) unknown.unit = nb::cast<uint32_t>(unknown_unit);
    unknown.fuse = fuse;
    auto vocabulary = std::make_unique<Vocabulary>(
        items<uint8_t>(units, "units"), items<uint64_t>(unit_ends, "unit_ends"), items<uint32_t>(emit, "emit"),
        items<uint64_t>(emit_ends, "emit_ends"), characters, known.is_none() ? SIZE_MAX : nb::cast<size_t>(known),
        std::move(unknown));
    if (policy == "merge") {
      const std::vector<uint32_t> flat = items<uint32_t>(merges, "merges");
      if (flat.size() % 3) throw std::invalid_argument("merges: not a whole number of triples");
      std::vector<Merge> triples(flat.size() / 3);
      for (size_t i = 0; i < triples.size(); ++i) triples[i] = {flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]};
      if (!order.is_none()) throw std::invalid_argument("order: only for policy lbpe");
      encoder_ = std::make_unique<EncoderWith<MergePolicy>>(sizes, kind, std::move(vocabulary), triples, ignore_merges);
    } else if (policy == "lbpe") {
      std::vector<uint32_t> ranks;
      if (!order.is_none()) ranks = items<uint32_t>(order, "order");
      encoder_ = std::make_unique<EncoderWith<LbpePolicy>>(sizes, kind, std::move(vocabulary), std::move(ranks),
                                                           ignore_merges);
    } else {
      throw std::invalid_argument("unknown encoding policy: " + policy);
    }
  }

  // The encoder that `state` was taken of.
  explicit EncoderHandle(nb::handle state) {
    const BufferView view(state);
    StateReader reader(view.data(), view.size());
    uint32_t form = 0, kind = 0;
    reader(form), reader(kind);
    if (form != kStateForm || kind > static_cast<uint32_t>(Pretokenizer::kMetaspace)) {
      throw std::invalid_argument("state: of another engine");
    }
    auto vocabulary = std::make_unique<Vocabulary>(reader);
    encoder_ = std::make_unique<EncoderWith<MergePolicy>>(CacheSizes{}, static_cast<Pretokenizer>(kind),
                                                          std::move(vocabulary), reader);
    if (!reader.at_end()) throw std::invalid_argument("state: too long");
  }

  nb::bytes state() { return to_bytes(encoder_->state()); }

  nb::object encode(nb::handle text) {
    const BufferView view(text);
    std::vector<uint64_t> id_ends(1);
    return encode_documents(view, {view.size()}, 1, id_ends);
  }

  nb::tuple encode_batch(nb::handle text, nb::handle ends, unsigned threads) {
    const BufferView view(text);
    const std::vector<uint64_t> text_ends = document_ends(ends, view);
    std::vector<uint64_t> id_ends(text_ends.size());
    nb::object ids = encode_documents(view, text_ends, threads, id_ends);
    return nb::make_tuple(ids, to_bytes(id_ends));
  }

  uint64_t operations() const { return encoder_->operations(); }
  Encoder& encoder() { return *encoder_; }

 private:
  // Ids go right into a bytes object with room for an id a byte, whose unused pages are never touched.
  nb::object encode_documents(const BufferView& view, const std::vector<uint64_t>& ends, unsigned threads,
                              std::vector<uint64_t>& id_ends) {
    const size_t room = view.size() + kOutputSlack;
    if (room > PY_SSIZE_T_MAX / sizeof(uint32_t)) throw std::bad_alloc();
    PyObject* ids = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(room * sizeof(uint32_t)));
    if (!ids) throw nb::python_error();
    nb::object owner = nb::steal(ids);
    uint64_t count;
    {
      nb::gil_scoped_release release;
      count = encoder_->encode({view.data(), ends}, threads, reinterpret_cast<uint32_t*>(PyBytes_AS_STRING(ids)),
                               id_ends.data());
    }
    ids = owner.release().ptr();
    if (_PyBytes_Resize(&ids, static_cast<Py_ssize_t>(count * sizeof(uint32_t)))) throw nb::python_error();
    return nb::steal(ids);
  }

  std::unique_ptr<Encoder> encoder_;
};

// Goes on from the tokenizer that `encoder` is of: `vocab_size` counts its units too. allowed(bytes) says whether a
// token of that spelling may be made.
Trained extend_with(CounterHandle& counter, EncoderHandle& handle, const std::string& policy, uint64_t vocab_size,
                    uint64_t min_frequency, uint64_t max_token_bytes, nb::object allowed, nb::object progress) {
  Encoder& encoder = handle.encoder();
  const Vocabulary& vocabulary = encoder.vocabulary();
  std::vector<uint32_t> lengths(vocabulary.size());
  std::vector<std::string> spelled(vocabulary.size());
  for (uint32_t u = 0; u < vocabulary.size(); ++u) {
    lengths[u] = vocabulary.length(u);
    spelled[u].assign(reinterpret_cast<const char*>(vocabulary.unit_bytes(u)), lengths[u]);
  }
  Filter filter(std::move(spelled), [&allowed](const std::string& spelling) {
    nb::gil_scoped_acquire acquire;
    return nb::cast<bool>(allowed(nb::bytes(spelling.data(), spelling.size())));
  });
  const std::function<void(uint64_t)> report = reporter(progress);
  const Limits limits{vocab_size, min_frequency, max_token_bytes};
  check_training_policy(policy);
  nb::gil_scoped_release release;
  const std::unique_ptr<PieceCutter> cutter = encoder.cutter();
  const auto cut = [&](const uint8_t* p, size_t n, std::vector<uint32_t>& units) {
    units = cutter->units_of(p, n);
    for (uint32_t& unit : units) {
      if (!vocabulary.is_known(unit)) unit = TrainingCorpus::kBorder;
    }
  };
  return train_by(policy, counter.corpus(std::move(lengths), cut), limits, report, std::move(filter));
}

class AddedTokensHandle {
 public:
  AddedTokensHandle(nb::handle bytes, nb::handle ends, nb::handle ids, nb::handle flags)
      : tokens_(items<uint8_t>(bytes, "bytes"), items<uint64_t>(ends, "ends"), items<uint32_t>(ids, "ids"),
                items<uint8_t>(flags, "flags")) {}

  nb::tuple cut(nb::handle text, nb::handle ends, bool allow_special) const {
    const BufferView view(text);
    const std::vector<uint64_t> text_ends = document_ends(ends, view);
    Segments segments;
    {
      nb::gil_scoped_release release;
      segments = tokens_.cut(view.data(), text_ends, allow_special);
    }
    return nb::make_tuple(to_bytes(segments.text), to_bytes(segments.ends), to_bytes(segments.layout));
  }

 private:
  AddedTokens tokens_;
};

nb::tuple join_segments(nb::handle ids, nb::handle ends, nb::handle layout) {
  const Joined joined =
      join(items<uint32_t>(ids, "ids"), items<uint64_t>(ends, "ends"), items<uint32_t>(layout, "layout"));
  return nb::make_tuple(to_bytes(joined.ids), to_bytes(joined.ends));
}

nb::bytes nest_layouts(nb::handle outer, nb::handle inner) {
  return to_bytes(nest(items<uint32_t>(outer, "outer"), items<uint32_t>(inner, "inner")));
}

// A view of a str's UTF-8, which lives as long as the str; nothing for other objects and for lone surrogates.
std::optional<std::string_view> text_of(nb::handle object) {
  if (!PyUnicode_Check(object.ptr())) return std::nullopt;
  Py_ssize_t size;
  const char* const text = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (!text) {
    PyErr_Clear();
    return std::nullopt;
  }
  return std::string_view(text, static_cast<size_t>(size));
}

// An entry of a file's merges: "a b" or ["a", "b"].
std::optional<TextPair> pair_of(nb::handle entry) {
  if (PyList_CheckExact(entry.ptr())) {
    if (PyList_GET_SIZE(entry.ptr()) != 2) return std::nullopt;
    const auto left = text_of(PyList_GET_ITEM(entry.ptr(), 0)), right = text_of(PyList_GET_ITEM(entry.ptr(), 1));
    if (!left || !right) return std::nullopt;
    return TextPair(*left, *right);
  }
  const auto line = text_of(entry);
  const size_t space = line ? line->find(' ') : std::string_view::npos;
  if (space == std::string_view::npos || line->find(' ', space + 1) != std::string_view::npos) return std::nullopt;
  return TextPair(line->substr(0, space), line->substr(space + 1));
}

nb::object read_bpe(nb::list texts, nb::list merges, const std::string& alphabet) {
  std::vector<std::string_view> units;
  for (const nb::handle object : texts) {
    const auto text = text_of(object);
    if (!text) return nb::none();
    units.push_back(*text);
  }
  std::vector<TextPair> pairs;
  for (const nb::handle entry : merges) {
    if (const auto line = text_of(entry); line && line->substr(0, 8) == "#version") continue;
    const auto pair = pair_of(entry);
    if (!pair) return nb::none();
    pairs.push_back(*pair);
  }
  const auto spelled = spell(units, alphabet);
  const auto numbers = spelled ? number_merges(units, pairs) : std::nullopt;
  if (!numbers) return nb::none();
  return nb::make_tuple(to_bytes(spelled->bytes), to_bytes(spelled->ends), to_bytes(*numbers));
}

nb::bytes format_lines(nb::handle ids, nb::handle ends) {
  const std::vector<uint32_t> numbers = items<uint32_t>(ids, "ids");
  const std::vector<uint64_t> line_ends = items<uint64_t>(ends, "ends");
  std::vector<char> lines;
  {
    nb::gil_scoped_release release;
    lines = format_ids(numbers, line_ends);
  }
  return to_bytes(lines);
}

}  // namespace

NB_MODULE(_engine, module) {
  nb::set_leak_warnings(false);  // an encoder in a global variable lives as long as the process, and may
  nb::register_exception_translator([](const std::exception_ptr& exception, void*) {
    try {
      std::rethrow_exception(exception);
    } catch (const IoError& error) {
      PyErr_SetString(PyExc_OSError, error.what());
    }
  });

  module.attr("UNICODE_VERSION") = kUnicodeVersion;
  nb::list pretokenizers;
  for (const char* name : kPretokenizers) pretokenizers.append(name);
  module.attr("PRETOKENIZERS") = nb::tuple(pretokenizers);
  module.attr("TRAINING_POLICIES") = nb::make_tuple("bpe", "scaffold");
  module.attr("ENCODING_POLICIES") = nb::make_tuple("merge", "lbpe");

  module.def("split", &split, "pretokenizer"_a, "text"_a);
  module.def("format_ids", &format_lines, "ids"_a, "ends"_a);

  module.def("read_bpe", &read_bpe, "texts"_a, "merges"_a, "alphabet"_a);

  module.def("join", &join_segments, "ids"_a, "ends"_a, "layout"_a);
  module.def("nest", &nest_layouts, "outer"_a, "inner"_a);

  nb::class_<AddedTokensHandle>(module, "AddedTokens")
      .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle>(), "texts"_a, "ends"_a, "ids"_a, "flags"_a)
      .def("cut", &AddedTokensHandle::cut, "text"_a, "ends"_a, "allow_special"_a);

  nb::class_<CounterHandle>(module, "PieceCounter")
      .def(nb::init<const std::string&, unsigned, size_t, std::string>(), "pretokenizer"_a, "threads"_a = 1,
           "max_memory"_a = 0, "spill_directory"_a = "")
      .def("add", &CounterHandle::add, "text"_a, "ends"_a)
      .def("items", &CounterHandle::items)
      .def_prop_ro("pieces", [](const CounterHandle& self) { return self.counter().pieces(); })
      .def_prop_ro("bytes", [](const CounterHandle& self) { return self.counter().bytes(); })
      .def_prop_ro("spills", [](const CounterHandle& self) { return self.counter().spills(); });

  nb::class_<Trained>(module, "Trained")
      .def_prop_ro("merges", [](const Trained& self) { return to_bytes(self.merges); })
      .def_prop_ro("frequencies", [](const Trained& self) { return to_bytes(self.frequencies); })
      .def_prop_ro("scaffold", [](const Trained& self) { return to_bytes(self.scaffold); })
      .def_ro("marks", &Trained::marks)
      .def_ro("promotions", &Trained::promotions);
  module.def("train", &train_with, "counter"_a, "policy"_a, "vocab_size"_a, "min_frequency"_a,
             "max_token_bytes"_a, "byte_order"_a,
             "progress"_a = nb::none());

  nb::class_<EncoderHandle>(module, "Encoder")
      .def(nb::init<const std::string&, const std::string&, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle,
                    bool, nb::object, bool, nb::object, nb::object, nb::object, bool>(),
           "pretokenizer"_a, "policy"_a, "units"_a, "unit_ends"_a, "merges"_a, "emit"_a, "emit_ends"_a,
           "ignore_merges"_a = false, "order"_a = nb::none(), "characters"_a = false, "known"_a = nb::none(),
           "byte_units"_a = nb::none(), "unknown_unit"_a = nb::none(), "fuse"_a = false)
      .def(nb::init<nb::handle>(), "state"_a)
      .def("state", &EncoderHandle::state)
      .def("encode", &EncoderHandle::encode, "text"_a)
      .def("encode_batch", &EncoderHandle::encode_batch, "text"_a, "ends"_a, "threads"_a = 1)
      .def_prop_ro("operations", &EncoderHandle::operations)
      .def_prop_ro("units", [](EncoderHandle& self) { return self.encoder().vocabulary().size(); });
  module.def("extend", &extend_with, "counter"_a, "encoder"_a, "policy"_a, "vocab_size"_a, "min_frequency"_a,
             "max_token_bytes"_a, "allowed"_a, "progress"_a = nb::none());
}
