// The directory of a node that agents keep their spools in: `node`, of the node's own agent, and
// `pods`, where each pod's agent makes a folder, as in /tmp.
//
// Threads: any. It is done as root, and can be done again.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace holdfast::inject {

// `directory` exists. `user` owns what the node's agent has.
base::Result<void> PrepareNode(const std::string& directory, uid_t user);

}  // namespace holdfast::inject
