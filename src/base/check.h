// CASEMENT_CHECK: for our own bugs, on in every build. What the outside can
// cause is a Status instead (status.h).
#ifndef CASEMENT_BASE_CHECK_H_
#define CASEMENT_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define CASEMENT_CHECK(condition)                                           \
  do {                                                                      \
    if (!(condition)) [[unlikely]] {                                        \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, \
                   #condition);                                             \
      std::abort();                                                         \
    }                                                                       \
  } while (false)

#endif  // CASEMENT_BASE_CHECK_H_
