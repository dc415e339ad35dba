// The daemon's own metrics. What they mean is in casementd(8).
#ifndef CASEMENT_DAEMON_METRICS_H_
#define CASEMENT_DAEMON_METRICS_H_

#include <vector>

#include "casement/metric.h"
#include "fuse/notifier.h"
#include "fuse/operations.h"
#include "remote/remote_cas.h"
#include "store/blob_fetcher.h"
#include "store/blob_sender.h"
#include "vfs/node_table.h"
#include "vfs/sandbox_directory.h"

namespace casement {

// Any thread may call it while the parts live.
std::vector<Metric> CollectMetrics(const Adapter& adapter,
                                   const Notifier& notifier,
                                   const NodeTable& nodes,
                                   const SandboxDirectory& sandboxes);

// What came from the remote cache, and went there.
void AddRemoteMetrics(const RemoteCas& remote, const BlobFetcher& fetcher,
                      const BlobSender& sender, std::vector<Metric>& metrics);

}  // namespace casement

#endif  // CASEMENT_DAEMON_METRICS_H_
