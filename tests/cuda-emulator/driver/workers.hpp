// The threads of the system that run blocks (FATHOM_EMULATOR_THREADS of them, 2 by default), and the handler that turns a fault of the
// processor in a kernel into the launch's error.
#pragma once
#include "blocks.hpp"

namespace emulated {

// Runs all blocks of a launch. Its failure and message are set when it returns.
void run_on_workers(Launch& launch);

}
