#include "worker/action_spec.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/quote.h"
#include "base/status.h"
#include "model/digest_message.h"

namespace casement {
namespace {

constexpr size_t kPathBytesMax = 4095;
// As casementd takes them.
constexpr size_t kLabelBytesMax = 4096;
constexpr int kOutputsMax = 65536;

template <typename Message>
absl::StatusOr<Message> Parse(absl::string_view bytes, absl::string_view what) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError(absl::StrCat("the blob is no ", what));
  }
  return message;
}

// Relative, and with nothing in it that could lead elsewhere. May be empty.
absl::Status CheckPath(absl::string_view path, absl::string_view what) {
  if (path.empty()) return absl::OkStatus();
  bool is_good = path.size() <= kPathBytesMax &&
                 path.find('\0') == absl::string_view::npos;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    is_good = is_good && !part.empty() && part != "." && part != "..";
  }
  if (is_good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      what, " ", QuoteName(path.substr(0, 256)),
      ": must be relative, without empty parts, \".\" and \"..\""));
}

absl::Status CheckPlatform(const rev2::Platform& platform) {
  for (const rev2::Platform::Property& property : platform.properties()) {
    if (property.name() != "OSFamily") {
      return absl::InvalidArgumentError(absl::StrCat(
          "platform property ", QuoteName(property.name()),
          ": unknown; only OSFamily is, unless --ignore-platform is given"));
    }
    if (!absl::EqualsIgnoreCase(property.value(), "linux")) {
      return absl::FailedPreconditionError(absl::StrCat(
          "platform property OSFamily=", QuoteName(property.value()),
          ": this is linux"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> TimeoutOf(const rev2::Action& action,
                                         absl::Duration timeout_max) {
  if (!action.has_timeout()) return timeout_max;
  const absl::Duration timeout = absl::Seconds(action.timeout().seconds()) +
                                 absl::Nanoseconds(action.timeout().nanos());
  // REv2 has 0 mean that none was given, as protobuf's absent fields do.
  if (timeout == absl::ZeroDuration()) return timeout_max;
  if (timeout < absl::ZeroDuration() || timeout > timeout_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "timeout ", absl::FormatDuration(timeout), ": must be from 0 to ",
        absl::FormatDuration(timeout_max)));
  }
  return timeout;
}

absl::Status AddOutputs(const rev2::Command& command, ActionSpec& spec) {
  using Named = ActionSpec::Named;
  const auto add = [&spec](const auto& paths, Named named) {
    for (const std::string& path : paths) {
      spec.outputs.push_back({.path = path, .named = named});
    }
  };
  if (command.output_paths_size() > 0) {
    add(command.output_paths(), Named::kPath);
  } else {
    add(command.output_files(), Named::kFile);
    add(command.output_directories(), Named::kDirectory);
  }
  if (spec.outputs.size() > kOutputsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kOutputsMax, " outputs"));
  }
  for (const ActionSpec::Output& output : spec.outputs) {
    RETURN_IF_ERROR(CheckPath(output.path, "output"));
    if (output.path.empty() && output.named == Named::kFile) {
      return absl::InvalidArgumentError("output file \"\": a name is needed");
    }
  }
  return absl::OkStatus();
}

absl::Status AddCommand(const rev2::Command& command, ActionSpec& spec) {
  spec.arguments.assign(command.arguments().begin(), command.arguments().end());
  for (const std::string& argument : spec.arguments) {
    if (argument.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError("an argument holds a NUL");
    }
  }
  // env(1), by which commands are run, takes a name with '=' for a variable.
  if (spec.arguments.empty() || spec.arguments[0].empty() ||
      absl::StrContains(spec.arguments[0], '=')) {
    return absl::InvalidArgumentError(
        "the Command's first argument must be a program, without '=' in it");
  }
  for (const auto& variable : command.environment_variables()) {
    spec.environment.push_back(
        absl::StrCat(variable.name(), "=", variable.value()));
    if (variable.name().empty() || absl::StrContains(variable.name(), '=') ||
        spec.environment.back().find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          "environment variable ", QuoteName(variable.name().substr(0, 256)),
          ": malformed"));
    }
  }
  spec.working_directory = command.working_directory();
  RETURN_IF_ERROR(CheckPath(spec.working_directory, "working directory"));
  return AddOutputs(command, spec);
}

// Bazel's target, else the mnemonic, else the first output: actions that have
// one in common have much of their inputs in common.
std::string LabelOf(const rev2::RequestMetadata& who, const ActionSpec& spec) {
  std::string label = who.target_id();
  if (label.empty()) label = who.action_mnemonic();
  if (label.empty() && !spec.outputs.empty()) label = spec.outputs[0].path;
  label.resize(std::min(label.size(), kLabelBytesMax));
  return label;
}

}  // namespace

std::string ActionSpec::FromRoot(absl::string_view output) const {
  if (working_directory.empty()) {
    return output.empty() ? "." : std::string(output);
  }
  if (output.empty()) return working_directory;
  return absl::StrCat(working_directory, "/", output);
}

absl::StatusOr<Digest> CommandOf(absl::string_view action) {
  ASSIGN_OR_RETURN(const auto message, Parse<rev2::Action>(action, "Action"));
  return FromMessage(message.command_digest());
}

absl::StatusOr<ActionSpec> ParseAction(const Digest& digest,
                                       absl::string_view action,
                                       absl::string_view command,
                                       const rev2::RequestMetadata& who,
                                       const ActionLimits& limits) {
  ASSIGN_OR_RETURN(const auto asked, Parse<rev2::Action>(action, "Action"));
  ASSIGN_OR_RETURN(const auto wanted, Parse<rev2::Command>(command, "Command"));
  ActionSpec spec;
  spec.action = digest;
  ASSIGN_OR_RETURN(spec.input_root, FromMessage(asked.input_root_digest()));
  ASSIGN_OR_RETURN(spec.timeout, TimeoutOf(asked, limits.timeout_max));
  spec.do_not_cache = asked.do_not_cache();
  if (!limits.ignore_platform) {
    RETURN_IF_ERROR(CheckPlatform(asked.has_platform() ? asked.platform()
                                                       : wanted.platform()));
  }
  RETURN_IF_ERROR(AddCommand(wanted, spec));
  spec.label = LabelOf(who, spec);
  return spec;
}

}  // namespace casement
