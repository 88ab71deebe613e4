// Teams of threads. They know no instruction set; the tests run for each all the same, which costs little.
#include <atomic>
#include <thread>

#include "suite.h"
#include "team.h"

namespace {

// Every thread writes its part in each step and reads its neighbour's of the step before.
void run_steps(nc_team &team, int n_steps) {
    const int n = team.size();
    std::vector<int> value(n), seen(n);
    team.run([&](int index) {
        for (int step = 1; step <= n_steps; ++step) {
            value[index] = step;
            team.meet();
            seen[index] += value[(index + 1) % n] == step;
            team.meet();
        }
    });
    for (int index = 0; index < n; ++index)
        CHECK(seen[index] == n_steps, "%d threads: thread %d saw %d of %d steps", n, index, seen[index], n_steps);
}

}  // namespace

TEST("teams start and stop, used or not") {
    for (int round = 0; round < 20; ++round)
        for (int n : {1, 2, 3, 8}) {
            nc_team *team = nc_start_team(n);
            if (!CHECK(team && team->size() == n, "a team of %d", n)) return;
            if (round % 2) run_steps(*team, 3);
            nc_stop_team(team);
        }
}

TEST("every thread runs every job once, through thousands of short runs") {
    nc_team *team = nc_start_team(3);
    std::atomic<int> runs[3] = {};
    for (int round = 0; round < 2000; ++round) team->run([&](int index) { ++runs[index]; });
    for (int index = 0; index < 3; ++index) CHECK(runs[index] == 2000, "thread %d ran %d jobs", index, runs[index].load());
    nc_stop_team(team);
}

TEST("threads that slept between two runs wake up") {
    nc_team *team = nc_start_team(2);
    for (int round = 0; round < 5; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        run_steps(*team, 2);
    }
    nc_stop_team(team);
}

TEST("no thread is in a step before all have left the one before, with more threads than cores") {
    for (int n : {2, 3, 5, 16}) {
        nc_team *team = nc_start_team(n);
        run_steps(*team, n > 4 ? 30 : 500);
        nc_stop_team(team);
    }
}

TEST("two teams work at the same time") {
    nc_team *first = nc_start_team(2), *second = nc_start_team(3);
    std::thread other([&] { run_steps(*second, 200); });
    run_steps(*first, 200);
    other.join();
    nc_stop_team(first);
    nc_stop_team(second);
}
