// SPDX-License-Identifier: MIT
// `pack`, `store`: passages become a folder of encoded blocks; what such a folder holds, and how it is looked after.
#include <blockattn/cache/directory_storage.hpp>
#include <blockattn/cache/encoder.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "archive.hpp"
#include "prompt.hpp"
#include "terminal.hpp"

namespace cli {

namespace {

ba::result<ba::directory_storage<>> open_folder(const options& o) {
  return ba::directory_storage<>::open({.folder = o.store, .budget_bytes = o.store_budget, .isa = ba::isa_name()});
}

// A folder that is there: looking must not make one.
ba::result<void> require_folder(const std::string& folder) {
  std::error_code code;
  if (!std::filesystem::is_directory(folder, code))
    return ba::fail(ba::errc::io, folder, ": cannot list: expected a folder");
  return {};
}

// The safetensors files of a folder, in order of their names. Errors: `io`.
ba::result<std::vector<std::filesystem::path>> block_files(const std::string& folder) {
  std::vector<std::filesystem::path> out;
  std::error_code code, ignored;
  for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    if (it->path().extension() == ".safetensors" && it->is_regular_file(ignored)) out.push_back(it->path());
  if (code) return ba::fail(ba::errc::io, folder, ": cannot list: ", code.message());
  std::sort(out.begin(), out.end());
  return out;
}

// ls, verify: changes nothing, and takes no lock.
result<json> look(const options& o, bool verify) {
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
    if (verify) {
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
  if (verify) out["bad"] = bad;
  out["files"] = std::move(files);
  return out;
}

result<json> collect(const options& o) {
  if (auto there = require_folder(o.store); !there) return std::move(there).error();
  // Opened without a budget first, so that what is evicted for it is in the report.
  options unlimited = o;
  unlimited.store_budget = options().store_budget;
  auto folder = open_folder(unlimited);
  if (!folder) return std::move(folder).error();
  auto done = folder->collect();
  if (!done) return std::move(done).error();
  done->leftovers += folder->counters().leftovers;
  const std::uint64_t before = folder->counters().bytes;
  const auto within = open_folder(o);
  if (!within) return within.error();
  const auto now = within->counters();
  done->evicted += now.evictions;
  done->bytes += before - std::min<std::uint64_t>(before, now.bytes);
  if (!o.common.json)
    std::printf("removed %zu unfinished, %zu damaged, %zu oldest; %zu blocks, %.1f MB left\n", done->leftovers,
                done->damaged, done->evicted, now.blocks, static_cast<double>(now.bytes) * 1e-6);
  return json{{"leftovers", done->leftovers}, {"damaged", done->damaged}, {"evicted", done->evicted},
              {"removed_bytes", done->bytes}, {"blocks", now.blocks},     {"bytes", now.bytes}};
}

result<json> export_blocks(const options& o) {
  if (auto there = require_folder(o.store); !there) return std::move(there).error();
  const auto paths = block_files(o.store);
  if (!paths) return paths.error();
  const std::string unfinished = o.archive + ".tmp";
  std::ofstream to(unfinished, std::ios::binary | std::ios::trunc);
  std::size_t blocks = 0, skipped = 0;
  std::uint64_t bytes = 0;
  progress bar("exporting");
  for (std::size_t i = 0; i < paths->size() && to; ++i) {
    const auto& path = (*paths)[i];
    bar(i, paths->size());
    const auto mapped = ba::mapped_file::open(path);
    const auto whole = !mapped ? ba::result<void>(mapped.error()) : ba::verify_block(mapped->bytes());
    if (!whole || !ba::block_key_of_name(path.filename().string())) {
      std::fprintf(stderr, "blockattn: left out: %s: %s\n", path.string().c_str(),
                   whole ? "expected the name of a block" : whole.error().message.c_str());
      ++skipped;
      continue;
    }
    write_member(to, path.filename().string(), mapped->bytes());
    bytes += mapped->size();
    ++blocks;
  }
  end_archive(to);
  to.close();
  std::error_code code;
  if (to) std::filesystem::rename(unfinished, o.archive, code);
  if (!to || code) {
    std::filesystem::remove(unfinished, code);
    return ba::fail(ba::errc::io, o.archive, ": cannot write");
  }
  if (!o.common.json) std::printf("%zu blocks, %.1f MB\n", blocks, static_cast<double>(bytes) * 1e-6);
  return json{{"blocks", blocks}, {"bytes", bytes}, {"skipped", skipped}};
}

result<json> import_blocks(const options& o) {
  const auto mapped = ba::mapped_file::open(o.archive);
  if (!mapped) return mapped.error();
  const auto members = read_archive(mapped->bytes());
  if (!members) return ba::fail(members.error().code, o.archive, ": ", members.error().message);
  auto folder = open_folder(o);
  if (!folder) return std::move(folder).error();
  std::size_t blocks = 0, present = 0, refused = 0;
  std::uint64_t bytes = 0;
  for (const archive_member& member : *members) {
    const auto taken = folder->adopt(member.bytes);
    if (!taken && taken.error().code != ba::errc::bad_format && taken.error().code != ba::errc::unsupported)
      return taken.error();
    if (!taken) {
      std::fprintf(stderr, "blockattn: left out: %s: %s\n", member.name.c_str(), taken.error().message.c_str());
      ++refused;
      continue;
    }
    ++(*taken ? blocks : present);
    if (*taken) bytes += member.bytes.size();
  }
  if (!o.common.json) std::printf("%zu blocks, %zu were there already, %zu left out\n", blocks, present, refused);
  return json{{"blocks", blocks}, {"present", present}, {"refused", refused}, {"bytes", bytes}};
}

}  // namespace

result<json> pack(const options& o) {
  auto all = open_with_words(o);
  if (!all) return std::move(all).error();
  session& chat = *all->rt.chat;
  const auto passages = ba::open_passages(o.passages);
  if (!passages) return passages.error();
  const prompt p = tokenise(all->words(), all->form, *passages, "");
  auto folder = open_folder(o);
  if (!folder) return std::move(folder).error();
  std::size_t tokens = 0, bytes = 0, reused = 0;
  progress bar("encoding");
  const stopwatch clock;
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    // One block at a time: memory stays bounded however many passages there are.
    const std::vector<ba::token>& ids = p.blocks[i];
    const auto there = folder->load(chat.realm(), chat.shape(), ba::key_of(chat.realm(), ids), ids);
    if (!there) std::fprintf(stderr, "blockattn: encoded again: %s\n", there.error().message.c_str());
    ba::block_handle block = there ? *there : nullptr;
    if (block != nullptr) {
      ++reused;
    } else {
      auto encoded = chat.encode(ids);
      if (!encoded) return std::move(encoded).error();
      block = *std::move(encoded);
      if (auto kept = folder->save(chat.realm(), block); !kept) return std::move(kept).error();
    }
    tokens += ids.size();
    bytes += block->payload_bytes();
    bar(i + 1, p.blocks.size());
  }
  const double encode_ms = clock.milliseconds();
  if (!o.common.json)
    std::printf("%zu blocks, %zu tokens, %.1f MB, %.0f ms, %zu of them there already\n", p.blocks.size(), tokens,
                static_cast<double>(bytes) * 1e-6, encode_ms, reused);
  return json{
      {"blocks", p.blocks.size()}, {"tokens", tokens}, {"bytes", bytes}, {"encode_ms", encode_ms}, {"reused", reused}};
}

result<json> store(const options& o) {
  if (o.store_verb == "gc") return collect(o);
  if (o.store_verb == "export") return export_blocks(o);
  if (o.store_verb == "import") return import_blocks(o);
  return look(o, o.store_verb == "verify");
}

}  // namespace cli
