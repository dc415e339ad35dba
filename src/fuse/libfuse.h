// libfuse's low-level interface, with the version of it that we are written
// for.
#ifndef CASEMENT_FUSE_LIBFUSE_H_
#define CASEMENT_FUSE_LIBFUSE_H_

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 17)
#endif
#include <fuse_lowlevel.h>

#endif  // CASEMENT_FUSE_LIBFUSE_H_
