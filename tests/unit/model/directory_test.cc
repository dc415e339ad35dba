#include "model/directory.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;
using ::testing::HasSubstr;

const Digest kDigest = Digest::Of("hello");

rev2::FileNode* AddFile(rev2::Directory& message, const std::string& name) {
  rev2::FileNode* node = message.add_files();
  node->set_name(name);
  node->mutable_digest()->set_hash(kDigest.HexHash());
  node->mutable_digest()->set_size_bytes(kDigest.size_bytes());
  return node;
}

rev2::SymlinkNode* AddSymlink(rev2::Directory& message,
                              const std::string& name) {
  rev2::SymlinkNode* node = message.add_symlinks();
  node->set_name(name);
  node->set_target("target");
  return node;
}

std::string ParseError(const std::string& bytes) {
  const absl::StatusOr<std::shared_ptr<const Directory>> directory =
      Directory::Parse(bytes);
  if (directory.ok()) return "accepted";
  EXPECT_EQ(directory.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(directory.status().message());
}

std::string ParseError(const rev2::Directory& message) {
  return ParseError(message.SerializeAsString());
}

std::shared_ptr<const Directory> MustParse(const std::string& bytes) {
  auto directory = Directory::Parse(bytes);
  EXPECT_TRUE(directory.ok()) << directory.status();
  return *directory;
}

TEST(Directory, NoBytesAreTheEmptyDirectory) {
  EXPECT_TRUE(MustParse("")->entries().empty());
  EXPECT_EQ(DirectoryBuilder().Build(), "");
}

// G17
TEST(Directory, ShowsWhatTheBuilderWasTold) {
  const NodeProperties properties = {
      .mtime = absl::FromUnixSeconds(-5) + absl::Nanoseconds(7),
      .unix_mode = 0751};
  DirectoryBuilder builder;
  builder.AddSymlink("z", "/dangling/..", properties);
  builder.AddFile("b", kDigest, /*is_executable=*/true, properties);
  builder.AddDirectory("a", Digest());
  builder.AddFile("c", Digest(), /*is_executable=*/false);
  builder.SetProperties({.unix_mode = 0});
  const auto directory = MustParse(builder.Build());

  ASSERT_EQ(directory->entries().size(), 4u);
  const Directory::Entry& a = directory->entries()[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.type, EntryType::kDirectory);
  EXPECT_EQ(a.digest, Digest());
  const Directory::Entry& b = directory->entries()[1];
  EXPECT_EQ(b.name, "b");
  EXPECT_TRUE(b.is_executable);
  EXPECT_EQ(b.digest, kDigest);
  EXPECT_EQ(b.properties, properties);
  EXPECT_FALSE(directory->entries()[2].is_executable);
  const Directory::Entry& z = directory->entries()[3];
  EXPECT_EQ(z.type, EntryType::kSymlink);
  EXPECT_EQ(z.target, "/dangling/..");
  EXPECT_EQ(z.properties, properties);
  EXPECT_EQ(directory->properties().unix_mode, 0u);
}

TEST(Directory, FindsEveryNameAndNoOther) {
  DirectoryBuilder builder;
  for (int i = 0; i < 100; ++i) {
    builder.AddFile(absl::StrCat("f", i), kDigest, false);
  }
  const auto directory = MustParse(builder.Build());
  for (int i = 0; i < 100; ++i) {
    const auto found = directory->Find(absl::StrCat("f", i));
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(directory->entries()[*found].name, absl::StrCat("f", i));
  }
  EXPECT_FALSE(directory->Find("f").has_value());
  EXPECT_FALSE(directory->Find("f100").has_value());
  EXPECT_FALSE(directory->Find("").has_value());
  EXPECT_FALSE(directory->Find("g").has_value());
}

TEST(DirectoryBuilder, OrderOfAddingMakesNoDifference) {
  DirectoryBuilder forward;
  forward.AddFile("a", kDigest, false);
  forward.AddFile("b", kDigest, false);
  DirectoryBuilder backward;
  backward.AddFile("b", kDigest, false);
  backward.AddFile("a", kDigest, false);
  EXPECT_EQ(forward.Build(), backward.Build());
}

// The digest is that of the bytes every other REv2 client would write.
TEST(DirectoryBuilder, WritesTheCanonicalBytes) {
  rev2::Directory message;
  AddFile(message, "x")->set_is_executable(true);
  AddSymlink(message, "y")
      ->mutable_node_properties()
      ->mutable_unix_mode()
      ->set_value(0777);
  DirectoryBuilder builder;
  builder.AddSymlink("y", "target", {.unix_mode = 0777});
  builder.AddFile("x", kDigest, true);
  EXPECT_EQ(builder.Build(), message.SerializeAsString());
}

TEST(DirectoryBuilder, NamesAndTargetsNeedNotBeUtf8) {
  DirectoryBuilder builder;
  builder.AddFile("\xff\x80 name", kDigest, false);
  builder.AddSymlink("link", "\xc3 target");
  const auto directory = MustParse(builder.Build());
  EXPECT_EQ(directory->entries()[1].name, "\xff\x80 name");
  EXPECT_EQ(directory->entries()[0].target, "\xc3 target");
}

TEST(DirectoryBuilder, NamesSortAsBytesNotAsLetters) {
  DirectoryBuilder builder;
  builder.AddFile("\xc3\xa4", kDigest, false);  // An umlaut, in UTF-8.
  builder.AddFile("z", kDigest, false);
  builder.AddFile("Z", kDigest, false);
  const auto directory = MustParse(builder.Build());
  EXPECT_EQ(directory->entries()[0].name, "Z");
  EXPECT_EQ(directory->entries()[1].name, "z");
  EXPECT_EQ(directory->entries()[2].name, "\xc3\xa4");
}

// G22, and the next ones.
TEST(DirectoryParse, RefusesNamesThatNoFileCanHave) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"),
        std::string("/"), std::string("a\0b", 3), std::string(256, 'n')}) {
    rev2::Directory message;
    AddFile(message, name);
    EXPECT_THAT(ParseError(message), HasSubstr("name"));
  }
  rev2::Directory message;
  AddFile(message, std::string(255, 'n'));
  EXPECT_EQ(ParseError(message), "accepted");
}

TEST(DirectoryParse, RefusesUnsortedLists) {
  rev2::Directory message;
  AddFile(message, "b");
  AddFile(message, "a");
  EXPECT_THAT(ParseError(message), HasSubstr("not sorted"));
}

TEST(DirectoryParse, RefusesANameUsedTwiceInOneListOrTwo) {
  rev2::Directory one;
  AddFile(one, "a");
  AddFile(one, "a");
  EXPECT_THAT(ParseError(one), HasSubstr("twice"));
  rev2::Directory two;
  AddFile(two, "a");
  AddSymlink(two, "a");
  EXPECT_THAT(ParseError(two), HasSubstr("\"a\" is used twice"));
}

TEST(DirectoryParse, RefusesMalformedDigests) {
  rev2::Directory message;
  AddFile(message, "a")->mutable_digest()->set_hash("abc");
  EXPECT_THAT(ParseError(message), HasSubstr("entry \"a\": bad digest"));
  message.mutable_files(0)->clear_digest();
  EXPECT_THAT(ParseError(message), HasSubstr("bad digest"));
}

TEST(DirectoryParse, RefusesTargetsThatSymlinkRefuses) {
  for (const std::string& target :
       {std::string(), std::string(4096, 't'), std::string("a\0b", 3)}) {
    rev2::Directory message;
    AddSymlink(message, "link")->set_target(target);
    EXPECT_THAT(ParseError(message), HasSubstr("target"));
  }
}

TEST(DirectoryParse, RefusesPropertiesOutOfRange) {
  rev2::Directory message;
  rev2::NodeProperties& properties =
      *AddFile(message, "a")->mutable_node_properties();
  properties.mutable_unix_mode()->set_value(010000);
  EXPECT_THAT(ParseError(message), HasSubstr("unix_mode"));
  properties.mutable_unix_mode()->set_value(07777);
  properties.mutable_mtime()->set_nanos(-1);
  EXPECT_THAT(ParseError(message), HasSubstr("mtime"));
  properties.mutable_mtime()->set_nanos(0);
  properties.mutable_mtime()->set_seconds(int64_t{1} << 40);
  EXPECT_THAT(ParseError(message), HasSubstr("mtime"));
}

TEST(DirectoryParse, RefusesUnknownFieldsWhereverTheyAre) {
  const std::string unknown = "\xa2\x06\x01x";  // Field 100, one byte.
  rev2::Directory base;
  AddFile(base, "a")->mutable_node_properties()->mutable_mtime();
  AddSymlink(base, "s");
  base.mutable_node_properties()->mutable_unix_mode();
  const auto with = [&](auto select) {
    rev2::Directory message = base;
    google::protobuf::Message& part = select(message);
    part.GetReflection()->MutableUnknownFields(&part)->AddVarint(100, 1);
    return ParseError(message);
  };
  using Message = google::protobuf::Message;
  EXPECT_EQ(ParseError(base), "accepted");
  EXPECT_THAT(ParseError(base.SerializeAsString() + unknown),
              HasSubstr("unknown fields"));
  EXPECT_THAT(
      with([](rev2::Directory& m) -> Message& { return *m.mutable_files(0); }),
      HasSubstr("unknown fields"));
  EXPECT_THAT(with([](rev2::Directory& m) -> Message& {
                return *m.mutable_files(0)->mutable_digest();
              }),
              HasSubstr("unknown fields"));
  EXPECT_THAT(
      with([](rev2::Directory& m) -> Message& {
        return *m.mutable_files(0)->mutable_node_properties()->mutable_mtime();
      }),
      HasSubstr("unknown fields"));
  EXPECT_THAT(with([](rev2::Directory& m) -> Message& {
                return *m.mutable_symlinks(0);
              }),
              HasSubstr("unknown fields"));
  EXPECT_THAT(with([](rev2::Directory& m) -> Message& {
                return *m.mutable_node_properties()->mutable_unix_mode();
              }),
              HasSubstr("unknown fields"));
}

TEST(DirectoryParse, RefusesWhatIsNoDirectory) {
  EXPECT_THAT(ParseError(std::string("#!/bin/sh\necho hello\n")),
              HasSubstr("no Directory"));
  EXPECT_THAT(ParseError(std::string("\x7f"
                                     "ELF\x02\x01\x01")),
              HasSubstr("no Directory"));
  EXPECT_THAT(ParseError(std::string(1000, '\0')), HasSubstr("no Directory"));
}

TEST(DirectoryParse, RefusesAMessageThatIsTooLargeUnread) {
  const std::string bytes(kDirectoryBytesMax + 1, '\n');
  EXPECT_THAT(ParseError(bytes), HasSubstr("is the most"));
}

TEST(DirectoryParse, EveryTruncationIsRefusedOrValid) {
  DirectoryBuilder builder;
  for (int i = 0; i < 3; ++i) {
    builder.AddFile(absl::StrCat("file", i), kDigest, true,
                    {.mtime = absl::UnixEpoch(), .unix_mode = 0644});
  }
  const std::string bytes = builder.Build();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto directory = Directory::Parse(bytes.substr(0, size));
    if (directory.ok()) {
      EXPECT_LE((*directory)->entries().size(), 2u);
    }
  }
}

}  // namespace
}  // namespace casement
