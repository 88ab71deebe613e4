// Threads that work on one batch together, in steps: nobody begins a step before all have ended the one before.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "neuralcore.h"

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

    // By who has it: calls job(index) once in every thread, 0 in the caller's, and returns when all have ended.
    void run(const std::function<void(int)> &job);
    // Inside a job: waits until every thread is here.
    void meet();

    struct Unable {};

private:
    enum State : uint32_t { kFree, kTaken, kStopped };

    void start();
    void end_threads();
    void work(int index);

    const int n_threads_;
    const uint32_t generation_;
    const std::function<void(int)> *job_ = nullptr;
    std::atomic<uint32_t> state_{kFree};
    std::atomic<uint32_t> call_{0}, step_{0};
    std::atomic<int> arrived_{0};
    std::atomic<bool> ended_{false};
    std::vector<std::thread> threads_;
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
