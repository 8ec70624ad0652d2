// SPDX-License-Identifier: MIT
// Checkpoints of training: whatever the bytes, they are whole or refused. Signed again, changed bytes get past the hash.
#include <blockattn/train/checkpoint.hpp>
#include <cstdlib>

namespace ba = blockattn;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

ba::model_config tiny() {
  ba::model_config c;
  c.layers = 1;
  c.dim = c.head_dim = c.ffn = c.vocab = c.rope.rotary_dim = 2;
  c.heads = c.kv_heads = 1;
  c.tied_embeddings = true;
  return c;
}

void check(std::span<const std::byte> bytes) {
  static const ba::parameters<float> places(tiny());
  const auto view = ba::read_checkpoint<float>(bytes, places.config(), places.all().size());
  if (!view) {
    require(!view.error().message.empty());
    return;
  }
  require(view->weights.size() == places.all().size_bytes() && view->first.size() == view->weights.size() &&
          view->second.data() + view->second.size() + 16 == bytes.data() + bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  if (size < 16) return 0;
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  const ba::hash128 hash = ba::hasher().bytes(bytes.first(size - 16)).finish();
  std::memcpy(copy.data() + size - 16, &hash.low, 8);
  std::memcpy(copy.data() + size - 8, &hash.high, 8);
  check(copy);
  return 0;
}
