// SPDX-License-Identifier: MIT
// GGUF files from memory and through a function: both agree, and whatever opens can be read in full.
#include <blockattn/io/gguf_weights.hpp>
#include <cstdlib>

namespace ba = blockattn;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

// Every value by every finder.
void read_keys(const ba::gguf_file& file) {
  std::size_t sum = 0;
  for (const ba::gguf_key& key : file.keys()) {
    require(file.find_key(key.name) == &key);
    if (const auto text = file.find_string(key.name))
      for (const char c : *text) sum += static_cast<unsigned char>(c);
    if (const auto texts = file.find_strings(key.name)) {
      require(texts->size() == key.count);
      for (const std::string_view text : *texts)
        for (const char c : text) sum += static_cast<unsigned char>(c);
    }
    if (const auto floats = file.find_floats(key.name)) require(floats->size() == key.count);
    if (const auto ints = file.find_ints(key.name)) require(ints->size() == key.count);
    const auto number = file.find_u64(key.name);
    require(!number || file.find_f64(key.name).value_or(static_cast<double>(*number)) == static_cast<double>(*number));
    sum += file.find_i64(key.name) ? 1u : 0u;
    sum += file.find_bool(key.name) ? 1u : 0u;
  }
  volatile std::size_t keep = sum;  // so that the reads are done
  (void)keep;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto read = [bytes](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
    require(offset <= bytes.size() && out.size() <= bytes.size() - offset);
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };
  auto file = ba::gguf_file::from_memory(bytes);
  const auto called = ba::gguf_weights::from_callback(size, read);
  if (!file) {
    require(!file.error().message.empty() && !called);
    return 0;
  }
  read_keys(*file);
  std::size_t sum = 0;
  for (const ba::gguf_tensor& tensor : file->tensors()) {
    const auto loaded = file->load(tensor);
    require(loaded ? loaded->bytes().size() == tensor.bytes : tensor.bytes == 0);
    sum += static_cast<std::size_t>(tensor.bytes);
  }
  require(sum <= size);  // no byte is two tensors'

  const auto weights = ba::gguf_weights::from_file(std::move(file));
  require(weights.has_value() == called.has_value());
  if (!weights) return 0;
  require(ba::validate(weights->config()) && weights->config() == called->config());
  for (const std::string_view name : weights->names()) {
    const auto a = weights->load(name), b = called->load(name);
    require(a && b && a->bytes().size() == weights->find(name)->bytes && a->bytes().size() == b->bytes().size());
    require(std::memcmp(a->bytes().data(), b->bytes().data(), a->bytes().size()) == 0);
  }
  return 0;
}
