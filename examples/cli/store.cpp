// SPDX-License-Identifier: MIT
// `pack`, `store`: passages become a folder of encoded blocks; what such a folder holds.
#include <algorithm>
#include <cstdio>

#include "block_folder.hpp"
#include "prompt.hpp"
#include "terminal.hpp"

namespace cli {

namespace {

// The block files of a folder, in order of their names. Errors: `io`.
ba::result<std::vector<std::filesystem::path>> block_files(const std::string& folder) {
  std::vector<std::filesystem::path> out;
  std::error_code code, ignored;
  for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    if (it->path().extension() == ".safetensors" && it->is_regular_file(ignored)) out.push_back(it->path());
  if (code) return ba::fail(ba::errc::io, folder, ": cannot list: ", code.message());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

result<json> pack(const options& o) {
  auto all = open_with_words(o);
  if (!all) return std::move(all).error();
  session& chat = *all->rt.chat;
  const auto passages = ba::open_passages(o.passages);
  if (!passages) return passages.error();
  const prompt p = tokenise(all->words(), all->form, *passages, "");
  std::size_t tokens = 0, bytes = 0, reused = 0;
  double encode_ms = 0;
  {
    progress bar("encoding");
    ba::kv_store<> store({.budget_bytes = o.budget});
    const stopwatch clock;
    for (std::size_t i = 0; i < p.blocks.size(); ++i) {
      // One block at a time: memory stays bounded however many passages there are.
      const token_lists one{p.blocks[i]};
      const auto found = find_blocks(chat, store, o.store, one);
      if (!found) return found.error();
      if (auto kept = keep_blocks(chat, *found, o.store); !kept) return kept.error();
      tokens += one[0].size();
      bytes += found->handles[0]->payload_bytes();
      reused += one.size() - found->misses();
      bar(i + 1, p.blocks.size());
    }
    encode_ms = clock.milliseconds();
  }
  if (!o.common.json)
    std::printf("%zu blocks, %zu tokens, %.1f MB, %.0f ms, %zu of them there already\n", p.blocks.size(), tokens,
                static_cast<double>(bytes) * 1e-6, encode_ms, reused);
  return json{
      {"blocks", p.blocks.size()}, {"tokens", tokens}, {"bytes", bytes}, {"encode_ms", encode_ms}, {"reused", reused}};
}

result<json> store(const options& o) {
  if (o.store_verb != "ls" && o.store_verb != "verify")
    return ba::fail(ba::errc::unsupported, "store: expected ls or verify, found ", o.store_verb);
  const auto paths = block_files(o.store);
  if (!paths) return paths.error();
  json files = json::array();
  std::size_t bad = 0;
  std::uintmax_t bytes = 0;
  std::string lines;
  for (const auto& path : *paths) {
    std::error_code gone;  // a file that another process has removed meanwhile
    const std::uintmax_t size = std::filesystem::file_size(path, gone);
    if (gone) continue;
    json entry = {{"key", path.stem().string()}, {"bytes", size}};
    std::string reason;
    if (o.store_verb == "verify") {
      const auto whole = ba::verify_block_file(path);
      entry["ok"] = whole.has_value();
      if (!whole) entry["reason"] = reason = whole.error().message, ++bad;
    }
    bytes += size;
    lines += path.stem().string() + "\t" + std::to_string(size) + (reason.empty() ? "" : "\t" + reason) + "\n";
    files.push_back(std::move(entry));
  }
  if (!o.common.json) print(lines);
  json out = {{"blocks", files.size()}, {"bytes", bytes}};
  if (o.store_verb == "verify") out["bad"] = bad;
  out["files"] = std::move(files);
  return out;
}

}  // namespace cli
