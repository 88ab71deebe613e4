#include "team.h"

#include <pthread.h>

namespace {

// Rounds of watching before a helper sleeps: some 50 us, longer than a step takes and than a caller needs between two texts.
constexpr int kPatience = 2000;

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Raised in every forked child, before anything else runs there.
std::atomic<uint32_t> generation{0};

void count_generation() { generation.fetch_add(1, std::memory_order_relaxed); }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, count_generation);

constexpr uint64_t kStep = 1ull << 32, kPiece = 1ull << 16, kCount = kPiece - 1;

constexpr uint64_t next_of(uint64_t claims) { return claims / kPiece & kCount; }
constexpr uint64_t count_of(uint64_t claims) { return claims & kCount; }

}  // namespace

nc_team::nc_team(int n_threads) : n_threads_(n_threads), generation_(generation) {}

nc_team::~nc_team() { stop(); }

bool nc_team::is_left_behind() const { return generation_ != generation.load(std::memory_order_relaxed); }

bool nc_team::take() {
    uint32_t expected = kFree;
    if (is_left_behind() || !state_.compare_exchange_strong(expected, kTaken, std::memory_order_acquire)) return false;
    if ((int)threads_.size() + 1 < n_threads_) start();
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
        while ((int)threads_.size() + 1 < n_threads_) {
            const int index = (int)threads_.size() + 1;
            threads_.emplace_back([this, index] { work(index); });
        }
    } catch (...) {
        end_threads();
        ended_ = false;
        give_back();
        throw Unable();
    }
}

void nc_team::end_threads() {
    ended_ = true;
    wake();
    for (std::thread &thread : threads_) thread.join();
    threads_.clear();
}

void nc_team::wake() {
    call_.fetch_add(1);
    call_.notify_all();
}

void nc_team::share(int n_pieces, const nc::Job &job) {
    job_.store(&job, std::memory_order_relaxed);
    n_done_.store(0, std::memory_order_relaxed);
    claims_.store((claims_.load(std::memory_order_relaxed) / kStep + 1) * kStep + (uint64_t)n_pieces);
    if (asleep_.exchange(false)) wake();
    while (run_piece(0));
    while (n_done_.load(std::memory_order_acquire) < n_pieces) relax();
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
            const uint32_t seen = call_;
            asleep_ = true;
            if (!ended_ && !run_piece(index)) call_.wait(seen);
            idle = 0;
        }
    }
}
