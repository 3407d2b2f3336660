#include "workers.hpp"
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <ucontext.h>

extern "C" void fiber_restore();

namespace emulated {

namespace {

struct sigaction earlier[NSIG];

// In a kernel: goes back to the worker, which gives the block up. Anywhere else the handler that was there before gets the signal
// (.NET makes its null reference exceptions of them).
void on_fault(int signal, siginfo_t* info, void* context)
{
    Worker* worker = Worker::running();
    if (worker == nullptr)
    {
        const struct sigaction& before = earlier[signal];
        if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(signal, info, context);
        else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) before.sa_handler(signal);
        else sigaction(signal, &before, nullptr); // and the instruction faults again
        return;
    }
    Failure failure = Failure::LaunchFailed;
    char message[400];
    if (signal == SIGFPE) std::snprintf(message, sizeof(message), "division by zero");
    else if (signal == SIGILL) std::snprintf(message, sizeof(message), "illegal instruction");
    else
    {
        failure = Failure::IllegalAddress;
        if (info->si_code == SI_KERNEL) std::snprintf(message, sizeof(message), "illegal access: no address of this machine, or a misaligned one");
        else std::snprintf(message, sizeof(message), "illegal access to address %p%s", info->si_addr, worker->describe(info->si_addr).c_str());
    }
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    registers[REG_RSP] = reinterpret_cast<greg_t>(worker->fault(failure, message));
    registers[REG_RIP] = reinterpret_cast<greg_t>(&fiber_restore);
}

class Pool
{
public:
    Pool()
    {
        struct sigaction action{};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, &earlier[signal]);
        const char* text = std::getenv("FATHOM_EMULATOR_THREADS");
        int threads = text != nullptr ? std::atoi(text) : 2;
        for (int i = 0; i < std::max(threads, 1); i++) std::thread([this] { work(); }).detach();
        count = std::max(threads, 1);
    }

    void run(Launch& work)
    {
        std::unique_lock guard(lock);
        launch = &work;
        // As many workers as there are clusters to take.
        wanted = static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(count), work.clusters()));
        running = wanted;
        (wanted == 1 ? begin.notify_one() : begin.notify_all());
        end.wait(guard, [this] { return running == 0; });
        launch = nullptr;
    }

private:
    void work()
    {
        // A fault on a fiber's stack, which may have overflowed, is handled on this one.
        stack_t alternate{};
        alternate.ss_size = 64 * 1024;
        alternate.ss_sp = std::malloc(alternate.ss_size);
        sigaltstack(&alternate, nullptr);
        Worker worker;
        std::unique_lock guard(lock);
        for (;;)
        {
            begin.wait(guard, [this] { return wanted > 0; });
            wanted--;
            Launch* taken = launch;
            guard.unlock();
            worker.run(*taken);
            guard.lock();
            if (--running == 0) end.notify_one();
        }
    }

    std::mutex lock;
    std::condition_variable begin, end;
    Launch* launch = nullptr;
    int count, wanted = 0, running = 0;
};

}

void run_on_workers(Launch& launch)
{
    // Never destroyed: its threads wait in it until the process ends.
    static Pool* pool = new Pool;
    pool->run(launch);
}

}
