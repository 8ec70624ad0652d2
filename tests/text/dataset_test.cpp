// SPDX-License-Identifier: MIT
// The evaluation sets as their authors publish them, and what a damaged one says.
#include <blockattn/text/dataset.hpp>

#include <cstdio>

#include "../support/catch.hpp"
#include "../support/data.hpp"

namespace ba = blockattn;
using ba::dataset_format;

namespace {

const ba::sample expected{{{"T", "one two"}, {"U", "three"}}, "q?", {"a", "b"}};

// What a gzip file holds, through the tool that users are told to use.
std::string gunzipped(const std::filesystem::path& file) {
  const std::string command = "gunzip -c '" + file.string() + "'";
  std::FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string out;
  char part[1 << 14];
  for (std::size_t n; (n = std::fread(part, 1, sizeof part, pipe)) > 0;) out.append(part, n);
  REQUIRE(::pclose(pipe) == 0);
  return out;
}

}  // namespace

TEST_CASE("one sample in every format", "[text]") {
  const std::string passages = "[{\"title\":\"T\",\"text\":\"one two\"},{\"title\":\"U\",\"text\":\"three\",\"score\":1}]";
  const std::pair<const char*, std::string> records[] = {
      {"lines", "{\"passages\":" + passages + ",\"question\":\"q?\",\"answers\":[\"a\",\"b\"]}"},
      {"lines", "{\"documents\":" + passages + ",\"question\":\"q?\",\"answers\":[\"a\",\"b\"],\"prompt\":\"\"}"},
      {"nq", "{\"question\":\"q?\",\"answers\":[\"a\",\"b\",\"a\"],\"ctxs\":" + passages + ",\"id\":7}"},
      {"tqa", "{\"question\":\"q?\",\"target\":\"A\",\"answers\":[\"a\",\"b\"],\"ctxs\":" + passages + "}"},
      {"tqa",
       "{\"Question\":\"q?\",\"QuestionId\":\"x\",\"Answer\":{\"Value\":\"a\",\"Aliases\":[\"b\",\"a\"]},\"SearchResults\":"
       "[{\"Title\":\"T\",\"Description\":\"one two\",\"Rank\":0},{\"Title\":\"U\",\"Description\":\"three\"}]}"},
      {"musique",
       "{\"id\":\"2hop\",\"paragraphs\":[{\"idx\":0,\"title\":\"T\",\"paragraph_text\":\"one two\",\"is_supporting\":true},"
       "{\"idx\":1,\"title\":\"U\",\"paragraph_text\":\"three\"}],\"question\":\"q?\",\"answer\":\"a\","
       "\"answer_aliases\":[\"b\"],\"answerable\":true}"},
  };
  for (const auto& [name, record] : records) {
    INFO(record);
    const auto format = ba::find_dataset_format(name).value();
    for (const auto f : {format, dataset_format::automatic}) {
      // A line each, a list on one line or on many, and an object around it.
      CHECK(ba::read_dataset(record + "\n\n" + record + "\r\n", f).value() == std::vector<ba::sample>{expected, expected});
      CHECK(ba::read_dataset("\xEF\xBB\xBF[" + record + "," + record + "]", f).value().size() == 2);
      CHECK(ba::read_dataset(" [\n  " + record + " ,\n" + record + "\n]\n", f).value()[1] == expected);
      CHECK(ba::read_dataset("{\"Version\": 1.0, \"x\": [1, {\"Data\": []}], \"Data\": [" + record + "], \"y\": 2}", f)
                .value()
                .size() == 1);
    }
  }
  // One answer, sentences that are joined as they are, and the list as a string.
  const ba::sample hop{{{"T", "one two"}, {"U", "three"}}, "q?", {"a"}};
  for (const std::string record :
       {"{\"_id\":\"5a\",\"question\":\"q?\",\"answer\":\"a\",\"context\":[[\"T\",[\"one\",\" two\"]],[\"U\",[\"three\"]]]}",
        "{\"question\":\"q?\",\"answer\":\"a\",\"context\":\"[[\\\"T\\\",[\\\"one\\\",\\\" two\\\"]],[\\\"U\\\",[\\\"three\\\"]]]\"}"})
    for (const auto f : {dataset_format::hotpotqa, dataset_format::wiki2, dataset_format::automatic})
      CHECK(ba::read_dataset("[" + record + "]", f).value() == std::vector<ba::sample>{hop});
  CHECK(ba::read_dataset("{\"question\":\"q?\",\"answer\":\"a\",\"ctxs\":[]}").value().front().answers.size() == 1);
  for (const char* empty : {"", "\n\n", "[]", " [ ] ", "{\"Data\": []}"}) CHECK(ba::read_dataset(empty).value().empty());
  CHECK_FALSE(ba::find_dataset_format("squad"));
}

TEST_CASE("a damaged dataset is named by line and member", "[text]") {
  struct bad {
    dataset_format format;
    std::string record;
    const char* what;
  };
  const auto automatic = dataset_format::automatic;
  const bad cases[] = {
      {automatic, "{", "expected JSON"},
      {automatic, "7", "expected an object, found number"},
      {automatic, "{}", "question: expected a member, found none"},
      {automatic, "{\"question\":1,\"answers\":[],\"passages\":[]}", "question: expected a string, found number"},
      {automatic, "{\"question\":\"q\",\"passages\":[]}", "answers: expected a member"},
      {automatic, "{\"question\":\"q\",\"answers\":[],\"passages\":[]}", "answers: expected at least one, found none"},
      {automatic, "{\"question\":\"q\",\"answers\":[1],\"passages\":[]}", "answers[0]: expected a string"},
      {automatic, "{\"question\":\"q\",\"answers\":[\"a\"]}", "passages: expected a member"},
      {automatic, "{\"question\":\"q\",\"answers\":[\"a\"],\"passages\":{}}", "passages: expected a list, found object"},
      {automatic, "{\"question\":\"q\",\"answers\":[\"a\"],\"passages\":[7]}", "passages[0].: expected an object"},
      {automatic, "{\"question\":\"q\",\"answers\":[\"a\"],\"passages\":[{\"text\":\"\"},{}]}", "passages[1].text: expected"},
      {automatic, "{\"question\":\"q\",\"answers\":[\"a\"],\"passages\":[{\"text\":\"\xFF\"}]}", "expected JSON"},
      {dataset_format::nq, "{\"question\":\"q\",\"answers\":[\"a\"],\"passages\":[]}", "ctxs: expected a member"},
      {automatic, "{\"question\":\"q\",\"answer\":\"a\",\"context\":[[\"T\"]]}", "context[0]: expected [title, sentences]"},
      {automatic, "{\"question\":\"q\",\"answer\":\"a\",\"context\":[[\"T\",[1]]]}", "context[0][1][0]: expected a string"},
      {automatic, "{\"question\":\"q\",\"answer\":\"a\",\"context\":\"[\"}", "context: expected JSON"},
      {automatic, "{\"question\":\"q\",\"answer\":\"a\",\"paragraphs\":[{\"title\":\"T\"}]}", "paragraphs[0].paragraph_text"},
      {automatic, "{\"Question\":\"q\",\"Answer\":{}}", "Answer.Value: expected a member"},
      {automatic, "{\"Question\":\"q\",\"Answer\":7}", "Answer."},
  };
  for (const bad& c : cases) {
    // Both on its third line.
    for (const std::string& text : {"\n\n" + c.record + "\n", "[\n\n" + c.record + "]"}) {
      const auto r = ba::read_dataset(text, c.format);
      REQUIRE_FALSE(r);
      INFO(r.error().message);
      CHECK(r.error().code == ba::errc::bad_format);
      CHECK(r.error().message.find("line 3") != std::string::npos);
      CHECK(r.error().message.find(c.what) != std::string::npos);
    }
  }
  CHECK_FALSE(ba::read_dataset(std::string("{\"question\":\"q\",\"answers\":[\"a\"],\"passages\":[]}\0x", 48)));
  const std::string good = "{\"question\":\"q\",\"answers\":[\"a\"],\"passages\":[]}";
  for (const std::string& text : {"[" + good, "[" + good + ",]", "[" + good + " " + good + "]", "[" + good + "}"})
    CHECK_FALSE(ba::read_dataset(text));
  const auto zipped = ba::read_dataset("\x1F\x8B\x08");
  REQUIRE_FALSE(zipped);
  CHECK(zipped.error().code == ba::errc::unsupported);
  CHECK(zipped.error().message.find("gunzip") != std::string::npos);
  CHECK_FALSE(ba::read_dataset(std::string(1 << 20, '[')));
  CHECK(ba::open_dataset("no/such.jsonl").error().message.find("no/such.jsonl") != std::string::npos);
}

TEST_CASE("the published files are read whole", "[text]") {
  BLOCKATTN_REQUIRE_DATA(data);
  const auto musique = ba::open_dataset(data / "data" / "passages" / "musique-100.json").value();
  REQUIRE(musique.size() == 100);
  CHECK(musique[0].passages.size() == 20);
  CHECK(musique[0].passages[0].title == "Journal of Mathematical Physics");
  CHECK(musique[0].answers == std::vector<std::string>{"G. Stanley Hall", "Stanley Hall"});
  for (const auto& s : musique) CHECK((s.passages.size() == 20 && !s.answers[0].empty()));
  const auto hotpot = ba::open_dataset(data / "data" / "passages" / "hotpotqa-100.json", dataset_format::hotpotqa).value();
  REQUIRE(hotpot.size() == 100);
  CHECK(hotpot[0].question == "If Gallu is a demon Lilu is what?");
  CHECK(hotpot[0].passages.size() == 10);
  CHECK(hotpot[0].answers == std::vector<std::string>{"a spirit"});
  CHECK(hotpot[0].passages[0].text.find("collectible dice game") != std::string::npos);
  const auto file = data / "data" / "passages" / "nq-open-oracle.jsonl.gz";
  CHECK(ba::open_dataset(file).error().code == ba::errc::unsupported);
  const std::string text = gunzipped(file);
  const auto nq = ba::read_dataset(text).value();
  REQUIRE(nq.size() == 2655);
  CHECK(nq[0].question == "who got the first nobel prize in physics");
  CHECK(nq[0].passages[0].title == "List of Nobel laureates in Physics");
  for (const auto& s : nq) CHECK((s.passages.size() == 1 && !s.answers.empty()));
}
