// Threads that help a caller with its steps, each cut into pieces. Nobody waits for a thread that has not begun: pieces are
// claimed one by one, the caller takes what is left, and waits only for pieces that others have begun.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "neuralcore.h"

namespace nc {

// A reference to something that can be called with a piece and the index of the thread that has it, 0 for the caller's.
class Job {
public:
    template <typename Work>
    Job(const Work &work)
        : work_(&work), run_([](const void *work, int piece, int thread) { (*(const Work *)work)(piece, thread); }) {}

    void operator()(int piece, int thread) const { run_(work_, piece, thread); }

private:
    const void *work_;
    void (*run_)(const void *, int, int);
};

}  // namespace nc

struct nc_team {
    explicit nc_team(int n_threads);
    nc_team(const nc_team &) = delete;
    ~nc_team();

    int size() const { return n_threads_; }

    // Whether the caller has the team now. Never waits: false if another has it, or it was stopped, or its threads stayed behind in
    // another process. The first time it starts the threads; `nc_team::Unable` if they cannot be.
    bool take();
    void give_back();
    // Waits for who has it, and ends the threads for good.
    void stop();
    // Whether the process that made it was forked, and this is the child: the threads are not here, and cannot be waited for.
    bool is_left_behind() const;

    // By who has it: runs all pieces, 0 to n_pieces - 1 (65,535 at most), each in some thread, and returns when all have ended.
    // Wakes one of the helpers that sleep, if any does.
    void share(int n_pieces, const nc::Job &job);

    struct Unable {};

private:
    enum State : uint32_t { kFree, kTaken, kStopped };

    struct Helper {
        std::atomic<uint32_t> call{0};    // what it watches in its sleep
        std::atomic<bool> asleep{false};  // it is, or is about to be
        int kept_off = -1;                // the CPU that it may not use
        std::thread thread;
    };

    void start();
    void end_threads();
    void work(int index);
    bool run_piece(int index);
    void sleep(int index);
    void wake_one();
    void wake(Helper &);

    const int n_threads_;
    const uint32_t generation_;
    std::atomic<uint32_t> state_{kFree};
    std::atomic<const nc::Job *> job_{nullptr};
    alignas(64) std::atomic<uint64_t> claims_{0};  // step, next piece, pieces: 32, 16, 16 bits
    alignas(64) std::atomic<int> n_done_{0};
    alignas(64) std::atomic<int> n_asleep_{0};
    std::atomic<bool> ended_{false};
    std::vector<Helper> helpers_;
    int n_started_ = 0;
};

namespace nc {

// A team taken for a while, if it can be had.
class Taken {
public:
    explicit Taken(nc_team *team) : team_(team && team->take() ? team : nullptr) {}
    Taken(const Taken &) = delete;
    ~Taken() {
        if (team_) team_->give_back();
    }

    nc_team *team() const { return team_; }  // null: the caller works alone

private:
    nc_team *const team_;
};

}  // namespace nc
