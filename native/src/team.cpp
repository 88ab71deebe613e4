#include "team.h"

#include <pthread.h>
#include <sched.h>

namespace {

// Rounds of watching before a helper sleeps, some 200 us: longer than a step takes, and than a caller needs between two texts.
constexpr int kPatience = 8000;
// Rounds that a caller waits for a piece before it offers its CPU to who has that piece.
constexpr int kWatch = 1000;

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

#if defined(__linux__)
// The CPU that the caller is on, and all that it may use but this one; -1 if there is no other.
int other_cpus(cpu_set_t &others) {
    const int own = sched_getcpu();
    if (own < 0 || sched_getaffinity(0, sizeof others, &others)) return -1;
    CPU_CLR(own, &others);
    return CPU_COUNT(&others) ? own : -1;
}
#endif

// Raised in every forked child, before anything else runs there.
std::atomic<uint32_t> generation{0};

void count_generation() { generation.fetch_add(1, std::memory_order_relaxed); }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, count_generation);

constexpr uint64_t kStep = 1ull << 32, kPiece = 1ull << 16, kCount = kPiece - 1;

constexpr uint64_t next_of(uint64_t claims) { return claims / kPiece & kCount; }
constexpr uint64_t count_of(uint64_t claims) { return claims & kCount; }

}  // namespace

nc_team::nc_team(int n_threads) : n_threads_(n_threads), generation_(generation), helpers_(n_threads - 1) {}

nc_team::~nc_team() { stop(); }

bool nc_team::is_left_behind() const { return generation_ != generation.load(std::memory_order_relaxed); }

bool nc_team::take() {
    uint32_t expected = kFree;
    if (is_left_behind() || !state_.compare_exchange_strong(expected, kTaken, std::memory_order_acquire)) return false;
    if (n_started_ < n_threads_ - 1) start();
    return true;
}

void nc_team::give_back() {
    state_.store(kFree, std::memory_order_release);
    state_.notify_all();  // who stops it waits; a caller never does
}

void nc_team::stop() {
    for (uint32_t expected = kFree; !state_.compare_exchange_weak(expected, kStopped, std::memory_order_acquire); expected = kFree) {
        if (expected == kStopped) return;
        if (expected == kTaken) state_.wait(kTaken, std::memory_order_acquire);
    }
    end_threads();
}

void nc_team::start() {
    try {
        for (; n_started_ < n_threads_ - 1; ++n_started_)
            helpers_[n_started_].thread = std::thread([this, index = n_started_ + 1] { work(index); });
    } catch (...) {
        end_threads();
        ended_ = false;
        give_back();
        throw Unable();
    }
}

void nc_team::end_threads() {
    ended_ = true;
    for (; n_started_; --n_started_) {
        Helper &helper = helpers_[n_started_ - 1];
        wake(helper);
        helper.thread.join();
    }
}

void nc_team::share(int n_pieces, const nc::Job &job) {
    job_.store(&job, std::memory_order_relaxed);
    n_done_.store(0, std::memory_order_relaxed);
    claims_.store((claims_.load(std::memory_order_relaxed) / kStep + 1) * kStep + (uint64_t)n_pieces);
    if (n_asleep_.load()) wake_one();
    while (run_piece(0));
    for (int round = 0; n_done_.load(std::memory_order_acquire) < n_pieces; ++round) round < kWatch ? relax() : std::this_thread::yield();
}

// A step wakes one: waking all would cost a caller with many helpers more than they save it.
void nc_team::wake_one() {
    for (Helper &helper : helpers_) {
        if (!helper.asleep.load(std::memory_order_relaxed)) continue;
#if defined(__linux__)
        // Some schedulers put who is woken beside its waker, where it runs when the caller is done.
        cpu_set_t others;
        const int own = other_cpus(others);
        if (own < 0) return;
        if (own != helper.kept_off && !pthread_setaffinity_np(helper.thread.native_handle(), sizeof others, &others)) helper.kept_off = own;
#endif
        return wake(helper);
    }
}

void nc_team::wake(Helper &helper) {
    if (helper.asleep.exchange(false)) --n_asleep_;
    ++helper.call;
    helper.call.notify_one();
}

// Claims a piece and runs it; false if there is none. Who has one keeps the caller here, so its job is still the one of this step.
bool nc_team::run_piece(int index) {
    uint64_t claims = claims_.load();
    do {
        if (next_of(claims) >= count_of(claims)) return false;
    } while (!claims_.compare_exchange_weak(claims, claims + kPiece));
    (*job_.load(std::memory_order_relaxed))((int)next_of(claims), index);
    n_done_.fetch_add(1, std::memory_order_release);
    return true;
}

void nc_team::work(int index) {
    for (int idle = 0; !ended_;) {
        if (run_piece(index)) {
            idle = 0;
        } else if (++idle < kPatience) {
            relax();
        } else {
            sleep(index);
            idle = 0;
        }
    }
}

// Says so before it looks once more, as a caller looks for sleepers after it has offered pieces: one of them sees the other.
void nc_team::sleep(int index) {
    Helper &helper = helpers_[index - 1];
    const uint32_t seen = helper.call;
    helper.asleep = true;
    ++n_asleep_;
    if (!ended_ && !run_piece(index)) helper.call.wait(seen);
    if (helper.asleep.exchange(false)) --n_asleep_;
}
