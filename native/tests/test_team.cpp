// Teams of threads. They know no instruction set; the tests run for each all the same, which costs little.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "suite.h"
#include "team.h"

namespace {

// Every piece of a step writes its number and reads its neighbour's of the step before.
void run_steps(nc_team &team, int n_steps) {
    const int n = 3 * team.size();
    const nc::Taken taken(&team);
    if (!CHECK(taken.team(), "the team is somebody else's")) return;
    std::vector<int> value(n), seen(n), threads(n);
    for (int step = 1; step <= n_steps; ++step) {
        const auto write = [&](int piece, int thread) { value[piece] = step, threads[piece] = thread; };
        const auto read = [&](int piece, int) { seen[piece] += value[(piece + 1) % n] == step; };
        team.share(n, write);
        team.share(n, read);
    }
    for (int piece = 0; piece < n; ++piece) {
        CHECK(seen[piece] == n_steps, "%d threads: piece %d saw %d of %d steps", team.size(), piece, seen[piece], n_steps);
        CHECK(threads[piece] >= 0 && threads[piece] < team.size(), "thread %d", threads[piece]);
    }
}

// The exit code of a forked child that ran a function; -1 if it had to be ended.
template <typename Function>
int run_in_child(Function function) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(10);
        _exit(function());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST("teams start and stop, used or not") {
    for (int round = 0; round < 20; ++round)
        for (int n : {1, 2, 3, 8}) {
            nc_team *team = nc_make_team(n);
            if (!CHECK(team && team->size() == n, "a team of %d", n)) return;
            if (round % 2) run_steps(*team, 3);
            if (round % 3) nc_stop_team(team);
            nc_free_team(team);
        }
}

TEST("every piece runs once, through thousands of short steps") {
    nc_team team(3);
    std::atomic<int> runs[7] = {};
    const auto count = [&](int piece, int) { ++runs[piece]; };
    for (int round = 0; round < 2000; ++round) {
        const nc::Taken taken(&team);
        team.share(round % 7 + 1, count);
    }
    for (int piece = 0; piece < 7; ++piece) {
        const int expected = 2000 / 7 * (7 - piece) + std::max(0, 2000 % 7 - piece);
        CHECK(runs[piece] == expected, "piece %d ran %d times, expected %d", piece, runs[piece].load(), expected);
    }
}

TEST("threads that slept between two runs wake up") {
    nc_team team(2);
    for (int round = 0; round < 5; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        run_steps(team, 2);
    }
}

TEST("no piece of a step begins before all have ended of the one before, with more threads than cores") {
    for (int n : {2, 3, 5, 16}) {
        nc_team team(n);
        run_steps(team, n > 4 ? 30 : 500);
    }
}

TEST("two teams work at the same time") {
    nc_team first(2), second(3);
    std::thread other([&] { run_steps(second, 200); });
    run_steps(first, 200);
    other.join();
}

TEST("a team is one caller's at a time, and nobody waits for it") {
    nc_team team(2);
    std::atomic<int> n_inside{0}, n_taken{0}, n_together{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i)
        callers.emplace_back([&] {
            while (n_taken < 200) {
                const nc::Taken taken(&team);
                if (!taken.team()) continue;
                n_together += ++n_inside > 1;
                const auto nothing = [](int, int) {};
                team.share(4, nothing);
                --n_inside, ++n_taken;
            }
        });
    for (std::thread &caller : callers) caller.join();
    CHECK(n_together == 0, "two callers had it %d times", n_together.load());
}

TEST("stopping waits for who has the team, and nobody has it afterwards") {
    nc_team team(2);
    std::atomic<bool> is_taken{false}, is_given_back{false};
    std::thread caller([&] {
        const nc::Taken taken(&team);
        is_taken = true;
        const auto wait = [](int, int) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
        team.share(2, wait);
        is_given_back = true;
    });
    while (!is_taken) std::this_thread::yield();
    team.stop();
    CHECK(is_given_back, "stopped under its caller");
    team.stop();
    CHECK(!team.take(), "taken after its end");
    caller.join();
}

TEST("in a forked child the parent's team is nobody's and its end is not waited for, whoever had it") {
    nc_team *team = nc_make_team(3);
    run_steps(*team, 3);
    const auto leave = [team] {
        const bool had_it = team->take();
        nc_stop_team(team);
        nc_free_team(team);
        return had_it ? 3 : 0;
    };
    CHECK(run_in_child(leave) == 0, "a free team");
    {
        const nc::Taken taken(team);
        CHECK(run_in_child(leave) == 0, "a team in use");
    }
    run_steps(*team, 3);
    nc_free_team(team);
}
