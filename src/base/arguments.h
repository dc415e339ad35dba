// Command lines: options are declared once, and that parses them and writes the
// text of --help.
//
//   ArgumentParser parser("copy [OPTION]... FILE...", "Copies files.");
//   parser.Add({.name = "output", .letter = 'o', .placeholder = "DIR",
//               .help = "where to", .is_required = true})
//         .Operands("FILE", 1);
//   ASSIGN_OR_RETURN(const Arguments arguments, parser.Parse(words));
//   if (arguments.Has("help")) return Print(parser.Help());
//   Copy(arguments.operands(), arguments.Get("output"));
//
// Understood are --name VALUE, --name=VALUE, --name, -l VALUE, -lVALUE, and
// "--", after which everything is an operand. Names cannot be shortened,
// letters not be bundled. Given twice, the last value of an option counts,
// unless all are asked for. Every error is InvalidArgument in one line that
// names the option.
//
// Immutable once declared: any thread may parse. Words may hold any bytes.
#ifndef CASEMENT_BASE_ARGUMENTS_H_
#define CASEMENT_BASE_ARGUMENTS_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace casement {

// "4096", "64KiB", "50GiB": a number of bytes, with KiB, MiB, GiB or TiB for
// powers of 1024. InvalidArgument if it is anything else or 2^63 and more.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);

// A command line that has been understood. Asking for an option that was not
// declared is our own bug, and CHECKed.
class Arguments {
 public:
  // Whether it was given. Its default does not count.
  bool Has(absl::string_view name) const;
  // The value given last, else the default, else "".
  std::string Get(absl::string_view name) const;
  // All values given, in order; without the default.
  const std::vector<std::string>& All(absl::string_view name) const;
  // Get() as a number of bytes, see ParseBytes(); 0 if there is no value. The
  // error names the option.
  absl::StatusOr<int64_t> GetBytes(absl::string_view name) const;
  // Get() as a decimal number from `min` to `max`, which must be given or have
  // a default.
  absl::StatusOr<int64_t> GetInteger(absl::string_view name, int64_t min,
                                     int64_t max) const;

  // What is no option, in order.
  const std::vector<std::string>& operands() const { return operands_; }

 private:
  friend class ArgumentParser;
  struct Value {
    std::vector<std::string> given;
    std::optional<std::string> default_value;
  };
  const Value& Find(absl::string_view name) const;

  std::map<std::string, Value, std::less<>> values_;
  std::vector<std::string> operands_;
};

class ArgumentParser {
 public:
  struct Option {
    std::string name;  // Without the "--".
    char letter = 0;   // 'o' for -o; 0 for none.
    // What its value is called; "": it takes none.
    std::string placeholder = {};
    std::string help = {};  // One sentence, without a full stop.
    bool is_required = false;
    std::optional<std::string> default_value = {};
    std::vector<std::string> choices = {};  // If any, nothing else is taken.
  };
  static constexpr size_t kAnyNumber = std::numeric_limits<size_t>::max();

  // `usage` is the line after "Usage: "; `about` says what the program is for.
  // --help (-h) is declared already; found, nothing after it is looked at and
  // nothing required.
  ArgumentParser(absl::string_view usage, absl::string_view about);

  ArgumentParser& Add(Option option);
  // Between `min` and `max` operands, called `name` in errors. None by default.
  ArgumentParser& Operands(absl::string_view name, size_t min,
                           size_t max = kAnyNumber);
  // The first operand ends the options, as if "--" stood before it: for a
  // command that follows with options of its own.
  ArgumentParser& EndAtFirstOperand();
  // Text for the end of Help(), printed as it is.
  ArgumentParser& Epilogue(absl::string_view text);

  // `words` are without the program's name.
  absl::StatusOr<Arguments> Parse(absl::Span<const std::string> words) const;
  // Usage, about, a paragraph for each option, epilogue; 80 columns.
  std::string Help() const;

 private:
  struct Word;
  const Option* FindName(absl::string_view name) const;
  const Option* FindLetter(char letter) const;
  absl::StatusOr<Word> Understand(const std::string& word) const;
  absl::Status CheckComplete(const Arguments& arguments) const;

  std::string usage_;
  std::string about_;
  std::string epilogue_;
  std::vector<Option> options_;
  std::string operand_name_ = "operand";
  size_t operands_min_ = 0;
  size_t operands_max_ = 0;
  bool ends_at_first_operand_ = false;
};

}  // namespace casement

#endif  // CASEMENT_BASE_ARGUMENTS_H_
