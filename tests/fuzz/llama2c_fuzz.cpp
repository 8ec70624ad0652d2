// SPDX-License-Identifier: MIT
// llama2.c files from memory and through a function: both agree, and whatever opens can be read in full.
#include <blockattn/io/llama2c.hpp>
#include <cstdlib>

namespace ba = blockattn;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto weights = ba::llama2c_weights::from_memory(bytes);
  const auto called = ba::llama2c_weights::from_callback(
      size, [bytes](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
        require(offset <= bytes.size() && out.size() <= bytes.size() - offset);
        std::memcpy(out.data(), bytes.data() + offset, out.size());
        return {};
      });
  require(weights.has_value() == called.has_value());
  if (!weights) {
    require(!weights.error().message.empty());
    return 0;
  }
  require(ba::validate(weights->config()) && weights->config() == called->config());
  std::size_t sum = 0;
  for (const std::string_view name : weights->names()) {
    const auto a = weights->load(name), b = called->load(name);
    require(a && b && a->bytes().size() == weights->find(name)->bytes && a->bytes().size() == b->bytes().size());
    require(a->bytes().empty() || std::memcmp(a->bytes().data(), b->bytes().data(), a->bytes().size()) == 0);
    sum += a->bytes().size();
  }
  require(sum < size);
  return 0;
}
