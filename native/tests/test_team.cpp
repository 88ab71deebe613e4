// Teams of threads. They know no instruction set; the tests run for each all the same, which costs little.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
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

// A sleeping helper is woken only where there is a CPU for it besides the caller's.
bool has_two_cpus() { return std::thread::hardware_concurrency() > 1; }

constexpr auto kLongest = std::chrono::seconds(20);  // that anything here may take; only what hangs does

// Steps until every thread of a team has had a piece; false if one never has.
bool all_come(nc_team &team) {
    if (!has_two_cpus()) return true;
    const auto end = std::chrono::steady_clock::now() + kLongest;
    std::vector<std::atomic<bool>> came(team.size());
    const auto count = [&](int, int thread) {
        came[thread] = true;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    };
    const auto is_here = [&] {
        for (const auto &each : came)
            if (!each) return false;
        return true;
    };
    while (!is_here() && std::chrono::steady_clock::now() < end) team.share(4 * team.size(), count);
    return is_here();
}

std::atomic<bool> is_held{false}, may_go{false};

void hold(int) {
    is_held = true;
    while (!may_go) usleep(100);
}

// Keeps a thread in a signal handler, which stands for a CPU that others have.
class Held {
public:
    explicit Held(pthread_t thread) {
        struct sigaction action {};
        action.sa_handler = hold;
        sigaction(SIGUSR1, &action, &before_);
        is_held = may_go = false;
        pthread_kill(thread, SIGUSR1);
        while (!is_held) std::this_thread::yield();
    }
    Held(const Held &) = delete;
    ~Held() {
        may_go = true;
        sigaction(SIGUSR1, &before_, nullptr);
    }

private:
    struct sigaction before_ {};
};

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

TEST("every piece of any number runs once, on any number of threads, by callers that come and go") {
    suite::Random random(12);
    for (int n : {1, 2, 3, 7}) {
        nc_team team(n);
        for (int caller = 0; caller < 4; ++caller)
            std::thread([&] {
                const nc::Taken taken(&team);
                for (int step = 0; step < 25; ++step) {
                    std::vector<std::atomic<int>> runs(random.integer(0, step % 8 ? 40 : 4000));
                    const auto count = [&](int piece, int) { ++runs[piece]; };
                    team.share((int)runs.size(), count);
                    for (size_t piece = 0; piece < runs.size(); ++piece)
                        CHECK(runs[piece] == 1, "%d threads: piece %zu of %zu ran %d times", n, piece, runs.size(), runs[piece].load());
                }
            }).join();
    }
}

TEST("as many pieces as there may be") {
    nc_team team(2);
    const nc::Taken taken(&team);
    for (int n : {65535, 1, 65534}) {
        std::atomic<int64_t> sum{0};
        const auto add = [&](int piece, int) { sum += piece + 1; };
        team.share(n, add);
        CHECK(sum == (int64_t)n * (n + 1) / 2, "%d pieces: %ld", n, (long)sum);
    }
}

TEST("threads that slept between two runs wake up") {
    for (int n : {2, has_two_cpus() ? 4 : 1}) {
        nc_team team(n);
        const nc::Taken taken(&team);
        for (int round = 0; round < 3; ++round) {
            std::this_thread::sleep_for(std::chrono::milliseconds(3));
            CHECK(all_come(team), "of %d threads, some never had a piece", n);
        }
    }
}

TEST("nobody waits for a helper that is held outside of a piece, and it comes again") {
    for (int is_asleep : {0, 1}) {
        nc_team team(2);
        if (!has_two_cpus()) return run_steps(team, 2);
        const nc::Taken taken(&team);
        std::atomic<pthread_t> helper{};
        std::atomic<bool> is_known{false};
        const auto tell = [&](int, int thread) {
            if (thread) helper = pthread_self(), is_known = true;
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        };
        while (!is_known) team.share(4, tell);
        if (is_asleep) std::this_thread::sleep_for(std::chrono::milliseconds(3));
        std::atomic<int> others{0}, runs{0};
        {
            const Held held(helper);
            const auto count = [&](int, int thread) { ++runs, others += thread != 0; };
            for (int step = 0; step < 500; ++step) team.share(4, count);
        }
        CHECK(runs == 2000 && others == 0, "%d pieces, %d in the thread that was held", runs.load(), others.load());
        CHECK(all_come(team), "it never came again");
    }
}

TEST("a caller on its only CPU does without, and without waiting") {
    nc_team team(3);
    std::thread([&] {
#if defined(__linux__)
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        pthread_setaffinity_np(pthread_self(), sizeof one, &one);
#endif
        run_steps(team, 50);
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        run_steps(team, 50);
    }).join();
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
