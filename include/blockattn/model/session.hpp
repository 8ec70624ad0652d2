// SPDX-License-Identifier: MIT
/// A session runs a shared model: it encodes blocks, prefills questions, decodes, generates. It owns scratch memory and
/// an executor, and is the encoder that a `kv_store` asks for misses.
///
/// One session per thread; the model and the store are shared, a session and a context are not. After a warm-up of the
/// same sizes, `prefill`, `decode` and `encode_into` allocate nothing (tests/model/allocation_test.cpp).
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../cache/block.hpp"
#include "../cache/context.hpp"
#include "../cache/encoder.hpp"
#include "../cache/key.hpp"
#include "generate.hpp"
#include "key_factors.hpp"
#include "llama.hpp"

namespace blockattn::inline v0 {

struct session_options {
  dtype kv = dtype::bf16;          // how keys and values are stored: f32, bf16 or i8
  std::size_t batch_tokens = 512;  // rows of one pass at most: bounds scratch; a multiple of 16
  std::string salt = {};           // separates who may share blocks
  // i8 only: `key_factors_of(model)` or `calibrate`; without, keys are rounded as they are. Blocks of other factors are
  // other blocks.
  std::shared_ptr<const key_factors> factors = {};
};

template <class Model = llama<>, executor Executor = inline_executor, class Allocator = std::allocator<std::byte>>
class session {
 public:
  using kernels = typename Model::kernels;

  /// Keeps a reference to `model`, which must outlive the session.
  explicit session(const Model& model, Executor workers = {}, session_options options = {},
                   const Allocator& allocator = Allocator())
      : model_(&model), workers_(std::move(workers)), options_(std::move(options)), scratch_(allocator) {
    BLOCKATTN_EXPECTS(options_.kv == dtype::f32 || options_.kv == dtype::bf16 || options_.kv == dtype::i8);
    if (options_.kv != dtype::i8) options_.factors = nullptr;
    BLOCKATTN_EXPECTS(options_.factors == nullptr ||
                      options_.factors->values().size() ==
                          std::size_t{shape().layers} * shape().kv_heads * shape().head_dim);
    options_.batch_tokens = std::max<std::size_t>(panel_width, round_up(options_.batch_tokens, panel_width));
    realm_.model = model.fingerprint();
    realm_.rope = hash_of(model.config().rope);
    if (const auto& local = model.config().local_rope) {
      const hash128 both[] = {realm_.rope, hash_of(*local)};
      realm_.rope = hasher().bytes(std::as_bytes(std::span(both))).finish();
    }
    realm_.type = options_.kv;
    realm_.salt = options_.salt;
    // bf16 products give other bits than float ones, so blocks of the two must not mix.
    realm_.codec = (model.compute() == compute_type::f32 ? 1u : 0u) | (shape().key_factors & ~std::uint64_t{1});
    sampled_.resize(model.config().vocab);
  }

  [[nodiscard]] const Model& model() const noexcept { return *model_; }
  [[nodiscard]] Executor& workers() noexcept { return workers_; }
  [[nodiscard]] const session_options& options() const noexcept { return options_; }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept { return scratch_.capacity_bytes(); }

  /// What a context of this session is made from: `context c{chat.layout(), {.room = 512}}`.
  [[nodiscard]] context_layout layout() const { return {shape(), model_->rope(), model_->config().vocab}; }
  operator context_layout() const { return layout(); }

  // --- Encoding: every block attends to itself alone (paper, section 2.3) -----------------------------------------

  [[nodiscard]] const block_realm& realm() const noexcept { return realm_; }
  [[nodiscard]] kv_shape shape() const noexcept {
    kv_shape kv = model_->kv(options_.kv);
    if (options_.factors != nullptr) kv.key_factors = options_.factors->name();
    return kv;
  }

  /// Encodes token lists at local positions 0.. into `payloads[i]` (shape().payload_bytes(lists[i].size()) bytes,
  /// 64-byte aligned). Lists are packed into passes of at most `batch_tokens` rows under a block-diagonal mask; the
  /// bits of a block do not depend on its neighbours. Errors: `invalid_argument` for an empty list or an id outside the
  /// vocabulary.
  [[nodiscard]] result<void> encode_into(std::span<const std::span<const token>> lists,
                                         std::span<std::byte* const> payloads);

  /// One block, in memory of its own, outside any store.
  [[nodiscard]] result<block_handle> encode(std::span<const token> ids) {
    return encode_block(*this, ids);
  }

  // --- The final block: it attends to everything before it ----------------------------------------------------------

  /// Computes `ids` at the end of the context and keeps the logits of the last one in `context.logits()`. In chunks of
  /// `batch_tokens`; `cancel` is looked at between them. On an error the context is as before.
  /// Errors: `context_full`, `invalid_argument` (no ids, an id outside the vocabulary), `shape_mismatch` (a context of
  /// another model), `unsupported` (int8 keys on the key side), `cancelled`; `bad_format` for a block that a tier
  /// restored lazily and that proves damaged.
  template <class ContextAllocator>
  result<void> prefill(basic_context<ContextAllocator>& sequence, std::span<const token> ids,
                       const std::atomic<bool>* cancel = nullptr) {
    return extend(sequence, ids, {}, cancel);
  }

  /// The same, keeping the logits of every row: `rows` holds ids.size() * vocab floats. For scoring.
  template <class ContextAllocator>
  result<void> prefill_logits(basic_context<ContextAllocator>& sequence, std::span<const token> ids,
                              std::span<float> rows) {
    if (rows.size() != ids.size() * model_->config().vocab)
      return fail(errc::shape_mismatch, "prefill_logits: expected room for ", ids.size() * model_->config().vocab,
                  " logits, found ", rows.size());
    return extend(sequence, ids, rows, nullptr);
  }

  /// One token for each of several contexts, in one pass; the logits go to each context. Bits are those of decoding
  /// each alone. Errors as `prefill`; then no context has changed.
  template <class ContextAllocator>
  result<void> decode(std::span<basic_context<ContextAllocator>* const> contexts, std::span<const token> ids);

  template <class ContextAllocator>
  result<void> decode(basic_context<ContextAllocator>& sequence, token id) {
    basic_context<ContextAllocator>* const one[1] = {&sequence};
    return decode(std::span<basic_context<ContextAllocator>* const>(one), std::span<const token>(&id, 1));
  }

  // --- Generation (model/generate.hpp) ------------------------------------------------------------------------------

  /// Generated tokens as a range; how it ended is in the object afterwards.
  template <class ContextAllocator, token_sampler Sampler>
  [[nodiscard]] auto generate(basic_context<ContextAllocator>& sequence, Sampler&& sampler,
                              generate_options options = {}) {
    using sampler_type = std::conditional_t<std::is_lvalue_reference_v<Sampler>, Sampler, std::remove_cvref_t<Sampler>>;
    return generation<session, basic_context<ContextAllocator>, sampler_type>(
        *this, sequence, std::forward<Sampler>(sampler), std::move(options));
  }

  /// The same with a callback `bool(token)`, which returns false to stop.
  template <class ContextAllocator, token_sampler Sampler, class Callback>
    requires std::is_invocable_r_v<bool, Callback&, token>
  result<finish_reason> generate(basic_context<ContextAllocator>& sequence, Sampler&& sampler, generate_options options,
                                 Callback&& callback) {
    auto tokens = generate(sequence, std::forward<Sampler>(sampler), std::move(options));
    for (const token id : tokens)
      if (!callback(id)) break;
    if (tokens.error()) return *tokens.error();
    return tokens.finish();
  }

  /// A copy of the context's logits that a sampler may change. Valid until the next call.
  template <class ContextAllocator>
  [[nodiscard]] std::span<float> logits_to_sample(basic_context<ContextAllocator>& sequence) {
    const std::span<const float> logits = sequence.logits();
    std::copy(logits.begin(), logits.end(), sampled_.begin());
    return sampled_;
  }

 private:
  [[nodiscard]] const float* factors() const noexcept {
    return options_.factors == nullptr ? nullptr : options_.factors->values().data();
  }
  [[nodiscard]] result<void> check_ids(std::span<const token> ids, const char* what) const {
    if (ids.empty()) return fail(errc::invalid_argument, what, ": expected at least one token, found none");
    const std::size_t vocab = model_->config().vocab;
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= vocab)
        return fail(errc::invalid_argument, what, ": token ", i, " must be in [0, ", vocab, "), found ", ids[i]);
    return {};
  }

  template <class ContextAllocator>
  [[nodiscard]] result<void> check_context(const basic_context<ContextAllocator>& sequence) {
    if (!(sequence.layout().shape == shape()))
      return fail(errc::shape_mismatch,
                  "context: its keys and values are of another shape or element type than this session's");
    if (sequence.position() == position_policy::key_side && options_.kv == dtype::i8)
      return fail(errc::unsupported, "context: key_side would round int8 keys again; expected query_side or none");
    for (const auto& piece : sequence.pieces())
      if (piece.block != nullptr && piece.block->unverified())
        if (auto whole = check_block(*piece.block); !whole) return whole;
    return {};
  }

  // A block that a tier restored without reading it is compared with its checksums before anything else reads it, once,
  // its layers in parallel.
  [[nodiscard]] result<void> check_block(const kv_block& block) {
    executor_ref(workers_).for_each(block.shape().layers,
                                    [&](std::size_t, std::size_t l) { (void)block.layer_is_whole(l); });
    return block.verify();  // reads nothing any more
  }

  // The sources of a context with `count` more tokens at `slot`: its pieces, the open run among them grown.
  struct aim {
    std::span<kv_source> sources;
    std::int64_t first_position;
  };
  template <class ContextAllocator>
  aim aim_at(basic_context<ContextAllocator>& sequence, std::size_t slot, std::size_t count);

  template <class ContextAllocator>
  void turn_keys(basic_context<ContextAllocator>& sequence);

  template <class ContextAllocator>
  result<void> extend(basic_context<ContextAllocator>& sequence, std::span<const token> ids, std::span<float> all,
                      const std::atomic<bool>* cancel);

  const Model* model_;
  Executor workers_;
  session_options options_;
  arena<Allocator> scratch_;
  block_realm realm_;
  std::vector<float> sampled_;
};

/// A session over an executor that lives elsewhere borrows it: `thread_executor pool(8); session chat(model, pool);`.
template <class Model, executor Executor>
session(const Model&, Executor&, session_options = {}) -> session<Model, executor_ref>;
template <class Model, executor Executor>
session(const Model&, Executor&&, session_options = {}) -> session<Model, Executor>;
template <class Model>
session(const Model&) -> session<Model>;

template <class Model, executor Executor, class Allocator>
result<void> session<Model, Executor, Allocator>::encode_into(std::span<const std::span<const token>> lists,
                                                              std::span<std::byte* const> payloads) {
  BLOCKATTN_EXPECTS(lists.size() == payloads.size());
  const kv_shape kv = shape();
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (auto ok = check_ids(lists[i], "block"); !ok) return ok;
    // Slots of the last tile that no token fills are a part of the block's bytes.
    for (std::size_t l = 0; l < kv.layers; ++l)
      kernels::zero_kv_padding(kv, payloads[i] + l * kv.layer_bytes(lists[i].size()), lists[i].size(), lists[i].size());
  }

  // A chunk is a part of one list, at most a pass long. Chunks of one list lie in different passes, in order, because
  // only a list's last chunk is shorter than a pass.
  std::size_t list = 0, done = 0;  // the next chunk starts at token `done` of `list`
  while (list < lists.size()) {
    scratch_.reset();
    std::size_t rows = 0, chunks = 0;
    for (std::size_t l = list, d = done; l < lists.size(); ++chunks) {
      const std::size_t n = std::min(options_.batch_tokens, lists[l].size() - d);
      if (rows + n > options_.batch_tokens) break;
      rows += n;
      d += n;
      if (d == lists[l].size()) ++l, d = 0;
    }
    const auto ids = scratch_.template take<token>(rows);
    const auto positions = scratch_.template take<std::int64_t>(rows);
    const auto sequences = scratch_.template take<pass_sequence>(chunks);
    const auto sources = scratch_.template take<kv_source>(chunks);
    std::size_t row = 0;
    for (std::size_t c = 0; c < chunks; ++c) {
      const std::span<const token> all = lists[list];
      const std::size_t n = std::min(options_.batch_tokens, all.size() - done);
      for (std::size_t i = 0; i < n; ++i) {
        ids[row + i] = all[done + i];
        positions[row + i] = static_cast<std::int64_t>(done + i);
      }
      sources[c] = kv_source{.payload = payloads[list], .room = all.size(), .tokens = done + n};
      sequences[c] = {row, n, {&sources[c], 1}, payloads[list], all.size(), done};
      row += n;
      done += n;
      if (done == all.size()) ++list, done = 0;
    }
    model_->forward({ids, positions, sequences, {}, factors()}, kv, workers_, scratch_);
  }
  return {};
}

template <class Model, executor Executor, class Allocator>
template <class ContextAllocator>
auto session<Model, Executor, Allocator>::aim_at(basic_context<ContextAllocator>& sequence, std::size_t slot,
                                                 std::size_t count) -> aim {
  const auto pieces = sequence.pieces();
  const bool open = !pieces.empty() && pieces.back().block == nullptr &&
                    pieces.back().slot + pieces.back().tokens == slot;
  const auto sources = scratch_.template take<kv_source>(pieces.size() + (open ? 0 : 1));
  std::byte* const tail = sequence.tail_layer(0);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto& piece = pieces[i];
    sources[i] = kv_source{.payload = piece.block != nullptr ? piece.block->layer(0) : tail,
                           .room = piece.block != nullptr ? piece.tokens : sequence.tail_capacity(),
                           .slot = piece.block != nullptr ? 0 : piece.slot,
                           .turned_keys = piece.own_keys,
                           .tokens = piece.tokens,
                           .start = piece.start,
                           .turn = piece.turn};
  }
  const auto position = static_cast<std::int64_t>(sequence.tokens());
  if (open) {
    sources.back().tokens += count;
  } else {
    sources.back() = kv_source{
        .payload = tail, .room = sequence.tail_capacity(), .slot = slot, .tokens = count, .start = position};
  }
  return {sources, position};
}

template <class Model, executor Executor, class Allocator>
template <class ContextAllocator>
result<void> session<Model, Executor, Allocator>::extend(basic_context<ContextAllocator>& sequence,
                                                         std::span<const token> ids, std::span<float> all,
                                                         const std::atomic<bool>* cancel) {
  if (auto ok = check_context(sequence); !ok) return ok;
  if (auto ok = check_ids(ids, "prefill"); !ok) return ok;
  const auto begun = sequence.begin_append(ids.size());
  if (!begun) return begun.error();
  turn_keys(sequence);

  const std::size_t vocab = model_->config().vocab;
  for (std::size_t done = 0; done < ids.size();) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed))
      return fail(errc::cancelled, "prefill: cancelled after ", done, " of ", ids.size(), " tokens");
    const std::size_t n = std::min(options_.batch_tokens, ids.size() - done);
    scratch_.reset();
    const auto sources = aim_at(sequence, *begun, done + n);
    const auto positions = scratch_.template take<std::int64_t>(n);
    for (std::size_t i = 0; i < n; ++i) positions[i] = sources.first_position + static_cast<std::int64_t>(done + i);
    const pass_sequence run{0, n, sources.sources, sequence.tail_layer(0), sequence.tail_capacity(), *begun + done};

    const bool last = done + n == ids.size();
    const auto wanted = scratch_.template take<pass_logits>(all.empty() ? (last ? 1 : 0) : n);
    for (std::size_t i = 0; i < wanted.size(); ++i)
      wanted[i] = all.empty() ? pass_logits{n - 1, sequence.logits().data()}
                              : pass_logits{i, all.data() + (done + i) * vocab};
    model_->forward({ids.subspan(done, n), positions, {&run, 1}, wanted, factors()}, shape(), workers_, scratch_);
    done += n;
  }
  if (!all.empty()) std::copy_n(all.end() - static_cast<std::ptrdiff_t>(vocab), vocab, sequence.logits().begin());
  sequence.commit_append(ids);
  sequence.set_has_logits();
  return {};
}

template <class Model, executor Executor, class Allocator>
template <class ContextAllocator>
result<void> session<Model, Executor, Allocator>::decode(
    std::span<basic_context<ContextAllocator>* const> contexts, std::span<const token> ids) {
  if (contexts.size() != ids.size())
    return fail(errc::shape_mismatch, "decode: expected one token for each of ", contexts.size(), " contexts, found ",
                ids.size());
  if (auto ok = check_ids(ids, "decode"); !ok) return ok;
  scratch_.reset();
  const std::size_t n = contexts.size();
  const auto slots = scratch_.template take<std::size_t>(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (auto ok = check_context(*contexts[i]); !ok) return ok;
    for (std::size_t j = 0; j < i; ++j)
      if (contexts[i] == contexts[j])
        return fail(errc::invalid_argument, "decode: context ", j, " is listed again as ", i);
    const auto begun = contexts[i]->begin_append(1);
    if (!begun) return begun.error();
    slots[i] = *begun;
    turn_keys(*contexts[i]);
  }
  const auto positions = scratch_.template take<std::int64_t>(n);
  const auto sequences = scratch_.template take<pass_sequence>(n);
  const auto wanted = scratch_.template take<pass_logits>(n);
  for (std::size_t i = 0; i < n; ++i) {
    auto& sequence = *contexts[i];
    const auto sources = aim_at(sequence, slots[i], 1);
    positions[i] = sources.first_position;
    sequences[i] = {i, 1, sources.sources, sequence.tail_layer(0), sequence.tail_capacity(), slots[i]};
    wanted[i] = {i, sequence.logits().data()};
  }
  model_->forward({ids, positions, sequences, wanted, factors(), true}, shape(), workers_, scratch_);
  for (std::size_t i = 0; i < n; ++i) {
    contexts[i]->commit_append(ids.subspan(i, 1));
    contexts[i]->set_has_logits();
  }
  return {};
}

// The paper's form of position re-encoding: K' = R(start) K, once for each placement, into memory of the context.
template <class Model, executor Executor, class Allocator>
template <class ContextAllocator>
void session<Model, Executor, Allocator>::turn_keys(basic_context<ContextAllocator>& sequence) {
  const kv_shape kv = shape();
  const auto& rope = *model_->rope();
  for (std::size_t i = 0; i < sequence.blocks(); ++i) {
    std::byte* const out = sequence.unmaterialised_keys(i);
    if (out == nullptr) continue;
    const kv_block& block = *sequence.block(i);
    const std::size_t tokens = block.tokens().size();
    float table[512];  // at most 128 pairs, twice
    rope.cos_sin(sequence.start(i), table);
    const std::size_t panel = kv.key_panel(tokens) * kv.element_bytes();
    executor_ref(workers_).for_each(std::size_t{kv.layers} * kv.kv_heads, [&](std::size_t, std::size_t task) {
      const std::size_t layer = task / kv.kv_heads, head = task % kv.kv_heads;
      const std::byte* const keys = block.layer(layer) + kv.key_offset(head, tokens);
      const float* const turn = table + rope.table_offset(model_->config().is_local(layer));
      kernels::turn_keys(kv, keys, tokens, turn, rope.pairs(), rope.layout, out + task * panel);
    });
    sequence.set_materialised(i);
  }
}

}  // namespace blockattn::inline v0
