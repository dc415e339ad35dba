#include "cli/invocation.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/status.h"

namespace casement {
namespace {

struct Command {
  CommandId id;
  std::string name;
  std::string operands;
  std::string about;  // One line.
};

const std::vector<Command>& Commands() {
  static const auto& commands = *new std::vector<Command>{
      {CommandId::kPut, "put", "FILE... | --tree DIR",
       "Puts files or a directory tree into the store"},
      {CommandId::kGet, "get", "DIGEST", "Writes a blob to a file"},
      {CommandId::kSandboxCreate, "sandbox create", "",
       "Makes a sandbox and prints its path"},
      {CommandId::kSandboxList, "sandbox list", "", "Lists the sandboxes"},
      {CommandId::kSandboxDiff, "sandbox diff", "NAME",
       "Lists what was done to a sandbox"},
      {CommandId::kSandboxCollect, "sandbox collect", "NAME PATH...",
       "Puts outputs of a sandbox into the store"},
      {CommandId::kSandboxRelease, "sandbox release", "NAME", "Ends a sandbox"},
      {CommandId::kRun, "run", "-- CMD [ARG...]",
       "Runs a command in a sandbox and collects its outputs"},
      {CommandId::kEvict, "evict", "DIGEST... | --unleased",
       "Drops blobs from the store"},
      {CommandId::kStats, "stats", "", "Says what is in the store"},
      {CommandId::kVerify, "verify", "", "Hashes every blob again"},
  };
  return commands;
}

constexpr char kSendHelp[] =
    "send outputs to the daemon's remote cache, too, and wait until they are "
    "there";

void AddCommonOptions(ArgumentParser& parser) {
  parser
      .Add({.name = "socket",
            .placeholder = "PATH",
            .help = "where casementd listens; else $CASEMENT_SOCKET, else "
                    "/run/casement/casement.sock for root and "
                    "$XDG_RUNTIME_DIR/casement.sock for others"})
      .Add({.name = "json", .help = "print JSON instead of lines"});
}

void AddSandboxOptions(ArgumentParser& parser) {
  parser
      .Add({.name = "root",
            .placeholder = "DIGEST",
            .help = "the input tree; empty if not given"})
      .Add({.name = "name",
            .placeholder = "NAME",
            .help = "the sandbox's name; chosen by the daemon if not given"})
      .Add({.name = "inputs",
            .placeholder = "POLICY",
            .help = "copy-on-write: inputs can be changed, in this sandbox "
                    "only; read-only: they cannot",
            .default_value = "copy-on-write",
            .choices = {"copy-on-write", "read-only"}})
      .Add({.name = "inputs-from",
            .placeholder = "PLACE",
            .help = "store: all inputs must be in the store; remote: or in the "
                    "daemon's remote cache, and come when they are read",
            .default_value = "store",
            .choices = {"store", "remote"}})
      .Add({.name = "label",
            .placeholder = "LABEL",
            .help = "where the action comes from, such as //package:target"})
      .Add({.name = "scratch-bytes-max",
            .placeholder = "SIZE",
            .help = "what may be written, such as 10GiB; past it, ENOSPC"})
      .Add({.name = "reuse",
            .placeholder = "WHEN",
            .help = "auto: a kept sandbox may be used again, which cannot be "
                    "told but by its speed; never: always make a fresh one",
            .default_value = "auto",
            .choices = {"auto", "never"}});
}

void AddRunOptions(ArgumentParser& parser) {
  AddSandboxOptions(parser);
  parser
      .Add({.name = "output",
            .placeholder = "PATH",
            .help = "collect this when the command has ended; can be given "
                    "more than once"})
      .Add({.name = "send", .help = kSendHelp})
      .Add({.name = "chroot",
            .help = "make the sandbox the command's root directory"})
      .Add({.name = "stash", .help = "keep the sandbox for a later one"})
      .Operands("CMD", 1)
      .EndAtFirstOperand();
}

void AddVerifyOptions(ArgumentParser& parser) {
  parser.Add({.name = "repair", .help = "drop what is damaged"})
      .Add({.name = "quarantine",
            .placeholder = "DIR",
            .help = "move what is damaged to this directory, outside of the "
                    "store and the mount"})
      .Add({.name = "disk-share",
            .placeholder = "PERCENT",
            .help = "of the time, spend at most so much reading: 1 to 100",
            .default_value = "50"});
}

// What is declared for one command beside the common options.
void AddOptionsOf(CommandId id, ArgumentParser& parser) {
  switch (id) {
    case CommandId::kPut:
      parser
          .Add({.name = "tree",
                .placeholder = "DIR",
                .help = "put the tree below DIR and print its root's digest"})
          .Add({.name = "node-properties",
                .help = "with --tree: keep modification times and permission "
                        "bits"})
          .Operands("FILE", 0);
      return;
    case CommandId::kGet:
      parser
          .Add({.name = "output",
                .letter = 'o',
                .placeholder = "FILE",
                .help = "where to; standard output if not given"})
          .Operands("DIGEST", 1, 1);
      return;
    case CommandId::kSandboxCreate:
      AddSandboxOptions(parser);
      parser.Add({.name = "cgroup",
                  .placeholder = "DIR",
                  .help = "a control group (version 2) that the action is "
                          "started in; what is in it dies with the sandbox"});
      return;
    case CommandId::kSandboxDiff:
      parser.Operands("NAME", 1, 1);
      return;
    case CommandId::kSandboxCollect:
      parser
          .Add({.name = "force",
                .help = "collect what is open for writing as it is now"})
          .Add({.name = "send", .help = kSendHelp})
          .Operands("NAME and PATH", 2);
      return;
    case CommandId::kSandboxRelease:
      parser.Add({.name = "stash", .help = "keep it for a later sandbox"})
          .Operands("NAME", 1, 1);
      return;
    case CommandId::kRun:
      AddRunOptions(parser);
      return;
    case CommandId::kEvict:
      parser
          .Add({.name = "unleased",
                .help = "everything that no live sandbox uses"})
          .Operands("DIGEST", 0);
      return;
    case CommandId::kStats:
      parser.Add(
          {.name = "prometheus", .help = "print in Prometheus' text format"});
      return;
    case CommandId::kVerify:
      AddVerifyOptions(parser);
      return;
    case CommandId::kSandboxList:
      return;
  }
}

ArgumentParser ParserOf(const Command& command) {
  const std::string usage =
      absl::StrCat("casement ", command.name, " [OPTION]...",
                   command.operands.empty() ? "" : " ", command.operands);
  ArgumentParser parser(usage, absl::StrCat(command.about, "."));
  AddOptionsOf(command.id, parser);
  AddCommonOptions(parser);
  return parser;
}

std::string CommandList(absl::string_view prefix) {
  std::string list = "Commands:\n";
  for (const Command& command : Commands()) {
    if (command.name.compare(0, prefix.size(), prefix.data(), prefix.size()) !=
        0) {
      continue;
    }
    absl::StrAppendFormat(&list, "  %-24s  %s\n", command.name, command.about);
  }
  absl::StrAppend(&list, "\n'casement COMMAND --help' says more about each.\n");
  return list;
}

ArgumentParser MainParser() {
  ArgumentParser parser("casement [--socket PATH] [--json] COMMAND",
                        "Sandboxes over a content-addressed store, by way of "
                        "casementd.");
  AddCommonOptions(parser);
  parser.Add({.name = "version", .help = "print the version and exit"})
      .Operands("COMMAND", 0)
      .EndAtFirstOperand()
      .Epilogue(CommandList(""));
  return parser;
}

ArgumentParser SandboxParser() {
  ArgumentParser parser("casement sandbox COMMAND",
                        "Makes, inspects and ends sandboxes.");
  AddCommonOptions(parser);
  parser.Operands("COMMAND after sandbox", 1)
      .EndAtFirstOperand()
      .Epilogue(CommandList("sandbox "));
  return parser;
}

absl::Status WithHint(const absl::Status& status, absl::string_view command) {
  return absl::InvalidArgumentError(
      absl::StrCat(status.message(), "; see 'casement",
                   command.empty() ? "" : " ", command, " --help'"));
}

// What the parsers cannot tell: options and operands that exclude each other.
absl::Status CheckCombination(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments;
  const bool has_operands = !arguments.operands().empty();
  if (invocation.command == CommandId::kPut) {
    if (arguments.Has("tree") == has_operands) {
      return absl::InvalidArgumentError("either FILE or --tree DIR is needed");
    }
    if (arguments.Has("node-properties") && has_operands) {
      return absl::InvalidArgumentError("--node-properties is for --tree");
    }
  }
  if (invocation.command == CommandId::kEvict &&
      arguments.Has("unleased") == has_operands) {
    return absl::InvalidArgumentError("either DIGEST or --unleased is needed");
  }
  if (invocation.command == CommandId::kGet && invocation.is_json &&
      !arguments.Has("output")) {
    return absl::InvalidArgumentError(
        "--json needs --output: standard output is the blob's");
  }
  if (invocation.command == CommandId::kStats && invocation.is_json &&
      arguments.Has("prometheus")) {
    return absl::InvalidArgumentError("either --json or --prometheus");
  }
  if (invocation.command == CommandId::kVerify) {
    // The daemon has another working directory.
    if (arguments.Has("quarantine") &&
        !absl::StartsWith(arguments.Get("quarantine"), "/")) {
      return absl::InvalidArgumentError("--quarantine needs an absolute path");
    }
    return arguments.GetInteger("disk-share", 1, 100).status();
  }
  if (invocation.command == CommandId::kRun && arguments.Has("send") &&
      !arguments.Has("output")) {
    return absl::InvalidArgumentError("--send is for --output");
  }
  if (invocation.command == CommandId::kRun ||
      invocation.command == CommandId::kSandboxCreate) {
    return arguments.GetBytes("scratch-bytes-max").status();
  }
  return absl::OkStatus();
}

void TakeCommonOptions(const Arguments& arguments, Invocation& invocation) {
  if (arguments.Has("socket")) invocation.socket = arguments.Get("socket");
  if (arguments.Has("json")) invocation.is_json = true;
}

absl::StatusOr<Invocation> ParseCommand(const Command& command,
                                        absl::Span<const std::string> words,
                                        Invocation invocation) {
  invocation.command = command.id;
  const ArgumentParser parser = ParserOf(command);
  ASSIGN_OR_RETURN(invocation.arguments, parser.Parse(words));
  if (invocation.arguments.Has("help")) {
    invocation.text = parser.Help();
    return invocation;
  }
  TakeCommonOptions(invocation.arguments, invocation);
  RETURN_IF_ERROR(CheckCombination(invocation));
  return invocation;
}

}  // namespace

absl::StatusOr<Invocation> ParseInvocation(
    absl::Span<const std::string> words) {
  Invocation invocation;
  const ArgumentParser main_parser = MainParser();
  absl::StatusOr<Arguments> arguments = main_parser.Parse(words);
  if (!arguments.ok()) return WithHint(arguments.status(), "");
  if (arguments->Has("help")) {
    invocation.text = main_parser.Help();
    return invocation;
  }
  if (arguments->Has("version")) {
    invocation.text = absl::StrCat("casement ", CASEMENT_VERSION, "\n");
    return invocation;
  }
  if (arguments->operands().empty()) {
    return WithHint(absl::InvalidArgumentError("COMMAND is missing"), "");
  }
  TakeCommonOptions(*arguments, invocation);
  std::string name = arguments->operands().front();
  if (name == "sandbox") {
    const ArgumentParser parser = SandboxParser();
    const std::vector<std::string> rest(arguments->operands().begin() + 1,
                                        arguments->operands().end());
    arguments = parser.Parse(rest);
    if (!arguments.ok()) return WithHint(arguments.status(), name);
    if (arguments->Has("help")) {
      invocation.text = parser.Help();
      return invocation;
    }
    TakeCommonOptions(*arguments, invocation);
    absl::StrAppend(&name, " ", arguments->operands().front());
  }
  for (const Command& command : Commands()) {
    if (command.name != name) continue;
    absl::StatusOr<Invocation> parsed = ParseCommand(
        command, absl::MakeConstSpan(arguments->operands()).subspan(1),
        invocation);
    if (!parsed.ok()) {
      return WithHint(Annotate(parsed.status(), name), name);
    }
    return parsed;
  }
  return WithHint(absl::InvalidArgumentError(absl::StrCat(
                      "unknown command '", absl::Utf8SafeCEscape(name), "'")),
                  "");
}

}  // namespace casement
