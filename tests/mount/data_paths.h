// Runs a suite's tests in both data paths. Neither is skipped: a machine that
// cannot do passthrough fails the passthrough half.
#ifndef CASEMENT_TESTS_MOUNT_DATA_PATHS_H_
#define CASEMENT_TESTS_MOUNT_DATA_PATHS_H_

#include <gtest/gtest.h>

#include <string>

#define CASEMENT_IN_BOTH_DATA_PATHS(Suite)                       \
  INSTANTIATE_TEST_SUITE_P(                                      \
      DataPath, Suite, testing::Values("passthrough", "cached"), \
      [](const testing::TestParamInfo<std::string>& data_path) { \
        return data_path.param;                                  \
      })

#endif  // CASEMENT_TESTS_MOUNT_DATA_PATHS_H_
