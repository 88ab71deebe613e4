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
    ~nc_team();

    int size() const { return n_threads_; }
    // Calls job(index) once in every thread, 0 in the caller's, and returns when all have ended.
    void run(const std::function<void(int)> &job);
    // Inside a job: waits until every thread is here.
    void meet();

private:
    void work(int index);

    const int n_threads_;
    const std::function<void(int)> *job_ = nullptr;
    std::atomic<uint32_t> call_{0}, step_{0};
    std::atomic<int> arrived_{0};
    std::atomic<bool> stopped_{false};
    std::vector<std::thread> threads_;
};
