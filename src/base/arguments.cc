#include "base/arguments.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/check.h"
#include "base/status.h"

namespace casement {
namespace {

constexpr size_t kColumns = 80;
// Where the help of an option begins; its name is before that, if it fits.
constexpr size_t kHelpColumn = 28;

struct Unit {
  absl::string_view suffix;
  int shift;
};
constexpr Unit kUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};

// absl::SimpleAtoi also takes signs and spaces.
bool IsDecimal(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// An argument as it can stand in a line of text, whatever its bytes.
std::string Quoted(absl::string_view word) {
  return absl::StrCat("'", absl::Utf8SafeCEscape(word), "'");
}

// Appends `text`, broken at spaces, to a line that is `column` wide already;
// later lines begin at `indent`.
void AppendWrapped(absl::string_view text, size_t column, size_t indent,
                   std::string& out) {
  bool is_line_start = true;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (!is_line_start && column + 1 + word.size() > kColumns) {
      absl::StrAppend(&out, "\n", std::string(indent, ' '));
      column = indent;
      is_line_start = true;
    }
    absl::StrAppend(&out, is_line_start ? "" : " ", word);
    column += word.size() + (is_line_start ? 0 : 1);
    is_line_start = false;
  }
  absl::StrAppend(&out, "\n");
}

std::string HeadOf(const ArgumentParser::Option& option) {
  std::string head = "  ";
  if (option.letter != 0) {
    absl::StrAppend(&head, "-", std::string(1, option.letter), ", ");
  }
  absl::StrAppend(&head, "--", option.name);
  if (!option.placeholder.empty()) {
    absl::StrAppend(&head, " ", option.placeholder);
  }
  return head;
}

std::string HelpOf(const ArgumentParser::Option& option) {
  std::string help = option.help;
  if (option.default_value.has_value() && !option.default_value->empty()) {
    absl::StrAppend(&help, " (default ", *option.default_value, ")");
  }
  return help;
}

absl::Status CheckChoice(const ArgumentParser::Option& option,
                         const std::string& value) {
  if (option.choices.empty() ||
      std::count(option.choices.begin(), option.choices.end(), value) != 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("option --", option.name, ": ", Quoted(value),
                   " is none of ", absl::StrJoin(option.choices, ", ")));
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  int shift = 0;
  absl::string_view number = text;
  for (const Unit& unit : kUnits) {
    if (absl::ConsumeSuffix(&number, unit.suffix)) {
      shift = unit.shift;
      break;
    }
  }
  int64_t value = 0;
  if (!IsDecimal(number)) {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(text), " is no number of bytes such as 4096, 64KiB or 50GiB"));
  }
  if (!absl::SimpleAtoi(number, &value) ||
      value > (std::numeric_limits<int64_t>::max() >> shift)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is more than 2^63 - 1 bytes"));
  }
  return value << shift;
}

const Arguments::Value& Arguments::Find(absl::string_view name) const {
  const auto value = values_.find(name);
  CASEMENT_CHECK(value != values_.end());
  return value->second;
}

bool Arguments::Has(absl::string_view name) const {
  return !Find(name).given.empty();
}

std::string Arguments::Get(absl::string_view name) const {
  const Value& value = Find(name);
  return value.given.empty() ? value.default_value.value_or("")
                             : value.given.back();
}

const std::vector<std::string>& Arguments::All(absl::string_view name) const {
  return Find(name).given;
}

absl::StatusOr<int64_t> Arguments::GetBytes(absl::string_view name) const {
  const std::string text = Get(name);
  if (text.empty() && !Has(name)) return 0;
  const absl::StatusOr<int64_t> bytes = ParseBytes(text);
  if (!bytes.ok()) return Annotate(bytes.status(), "option --", name);
  return bytes;
}

absl::StatusOr<int64_t> Arguments::GetInteger(absl::string_view name,
                                              int64_t min, int64_t max) const {
  const std::string text = Get(name);
  const bool is_negative = !text.empty() && text.front() == '-';
  int64_t value = 0;
  if (!IsDecimal(absl::string_view(text).substr(is_negative ? 1 : 0)) ||
      !absl::SimpleAtoi(text, &value) || value < min || value > max) {
    return absl::InvalidArgumentError(
        absl::StrCat("option --", name, ": ", Quoted(text),
                     " is no number from ", min, " to ", max));
  }
  return value;
}

// One word of a command line. No option: an operand.
struct ArgumentParser::Word {
  const Option* option = nullptr;
  std::optional<std::string> value;
};

ArgumentParser::ArgumentParser(absl::string_view usage, absl::string_view about)
    : usage_(usage), about_(about) {
  options_.push_back(
      {.name = "help", .letter = 'h', .help = "print this text and exit"});
}

ArgumentParser& ArgumentParser::Add(Option option) {
  CASEMENT_CHECK(FindName(option.name) == nullptr);
  CASEMENT_CHECK(option.letter == 0 || FindLetter(option.letter) == nullptr);
  // --help stays last.
  options_.insert(options_.end() - 1, std::move(option));
  return *this;
}

ArgumentParser& ArgumentParser::Operands(absl::string_view name, size_t min,
                                         size_t max) {
  operand_name_ = std::string(name);
  operands_min_ = min;
  operands_max_ = max;
  return *this;
}

ArgumentParser& ArgumentParser::EndAtFirstOperand() {
  ends_at_first_operand_ = true;
  return *this;
}

ArgumentParser& ArgumentParser::Epilogue(absl::string_view text) {
  epilogue_ = std::string(text);
  return *this;
}

const ArgumentParser::Option* ArgumentParser::FindName(
    absl::string_view name) const {
  for (const Option& option : options_) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

const ArgumentParser::Option* ArgumentParser::FindLetter(char letter) const {
  for (const Option& option : options_) {
    if (option.letter != 0 && option.letter == letter) return &option;
  }
  return nullptr;
}

absl::StatusOr<ArgumentParser::Word> ArgumentParser::Understand(
    const std::string& word) const {
  Word understood;
  // "-" alone is an operand, by custom standard input.
  if (word.size() < 2 || word[0] != '-') return understood;
  const bool is_long = word[1] == '-';
  const size_t equals = is_long ? word.find('=') : std::string::npos;
  if (is_long) {
    understood.option =
        FindName(absl::string_view(word).substr(0, equals).substr(2));
    if (equals != std::string::npos) understood.value = word.substr(equals + 1);
  } else {
    understood.option = FindLetter(word[1]);
    if (word.size() > 2) understood.value = word.substr(2);
  }
  if (understood.option == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown option ", Quoted(word.substr(0, equals))));
  }
  if (understood.value.has_value() && understood.option->placeholder.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("option --", understood.option->name, " takes no value"));
  }
  return understood;
}

absl::StatusOr<Arguments> ArgumentParser::Parse(
    absl::Span<const std::string> words) const {
  Arguments arguments;
  for (const Option& option : options_) {
    arguments.values_[option.name].default_value = option.default_value;
  }
  for (size_t i = 0; i < words.size(); ++i) {
    Word word;
    if (words[i] != "--") {
      ASSIGN_OR_RETURN(word, Understand(words[i]));
      if (word.option == nullptr && !ends_at_first_operand_) {
        arguments.operands_.push_back(words[i]);
        continue;
      }
    }
    if (word.option == nullptr) {
      const size_t first = i + (words[i] == "--" ? 1 : 0);
      arguments.operands_.insert(arguments.operands_.end(),
                                 words.begin() + first, words.end());
      break;
    }
    const Option& option = *word.option;
    if (!option.placeholder.empty() && !word.value.has_value()) {
      if (++i == words.size()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "option --", option.name, " needs a value: ", option.placeholder));
      }
      word.value = words[i];
    }
    RETURN_IF_ERROR(CheckChoice(option, word.value.value_or("")));
    arguments.values_[option.name].given.push_back(word.value.value_or(""));
    if (option.name == "help") return arguments;
  }
  RETURN_IF_ERROR(CheckComplete(arguments));
  return arguments;
}

absl::Status ArgumentParser::CheckComplete(const Arguments& arguments) const {
  for (const Option& option : options_) {
    if (option.is_required && !arguments.Has(option.name)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "option --", option.name, " ", option.placeholder, " is missing"));
    }
  }
  const std::vector<std::string>& operands = arguments.operands();
  if (operands.size() < operands_min_) {
    return absl::InvalidArgumentError(
        absl::StrCat(operand_name_, " is missing"));
  }
  if (operands.size() > operands_max_) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument ", Quoted(operands[operands_max_])));
  }
  return absl::OkStatus();
}

std::string ArgumentParser::Help() const {
  std::string help = absl::StrCat("Usage: ", usage_, "\n\n");
  for (const absl::string_view paragraph : absl::StrSplit(about_, '\n')) {
    AppendWrapped(paragraph, 0, 0, help);
  }
  absl::StrAppend(&help, "\nOptions:\n");
  for (const Option& option : options_) {
    const std::string head = HeadOf(option);
    absl::StrAppend(&help, head);
    if (head.size() + 2 <= kHelpColumn) {
      absl::StrAppend(&help, std::string(kHelpColumn - head.size(), ' '));
    } else {
      absl::StrAppend(&help, "\n", std::string(kHelpColumn, ' '));
    }
    AppendWrapped(HelpOf(option), kHelpColumn, kHelpColumn, help);
  }
  if (!epilogue_.empty()) absl::StrAppend(&help, "\n", epilogue_);
  return help;
}

}  // namespace casement
