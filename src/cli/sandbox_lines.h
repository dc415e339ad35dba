// The lines of `diff` and `collect`: a contract, see casement(1).
#ifndef CASEMENT_CLI_SANDBOX_LINES_H_
#define CASEMENT_CLI_SANDBOX_LINES_H_

#include <string>
#include <vector>

#include "casement/client.h"

namespace casement {

// "A|M|D|T <path>" each.
std::string LinesOf(const std::vector<SandboxChange>& changes);
// "file|exec|dir|symlink <digest or target>  <path>" each.
std::string LinesOf(const std::vector<CollectedOutput>& outputs);
// Says on standard error which paths do not exist: "missing <path>" each.
void PrintMissing(const std::vector<std::string>& missing);

}  // namespace casement

#endif  // CASEMENT_CLI_SANDBOX_LINES_H_
