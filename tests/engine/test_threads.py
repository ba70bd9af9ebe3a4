import os
import sys
import threading

import pytest
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from skemvae.engine.passes.threads import in_region, surely
from tests.threads import limited


def threads(api="blas"):
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == api]


def allow_openmp(n_threads):
    """In the calling thread; a context of threadpoolctl would set BLAS as well, when it ends."""
    if "torch" in sys.modules:  # which sets a limit of its own when it first runs in a thread
        sys.modules["torch"].get_num_threads()
    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "openmp":
            library.set_num_threads(n_threads)


def test_a_region_holds_blas_and_gives_it_back():
    def outside(outer):
        assert outer.n_workers == 2
        assert set(threads()) == {1}
        in_region(lambda inner: inside(inner, outer))
        assert set(threads()) == {1}

    def inside(inner, outer):
        assert inner is outer

    with limited(2):
        in_region(outside)
        assert set(threads()) == {2}


def test_regions_at_the_same_time_do_not_share_out_more_cores_than_there_are():
    workers, barrier = [], threading.Barrier(3)

    def work(region):
        barrier.wait(10)
        workers.append(region.n_workers)
        barrier.wait(10)

    def run():
        allow_openmp(2)
        in_region(work)

    with threadpool_limits(2, "blas"):
        started = [threading.Thread(target=run) for _ in range(3)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        assert sorted(workers) == [1, 1, 2]
        assert set(threads()) == {2}


@pytest.mark.parametrize("first_to_close", [0, 1])
def test_each_thread_gets_its_own_back_whichever_region_closes_last(first_to_close):
    """OpenMP has a limit for each thread, BLAS one for all of them."""
    opened, may_close = threading.Barrier(3), [threading.Event(), threading.Event()]
    after = [None, None]

    def run(i):
        def work(region):
            opened.wait(10)
            may_close[i].wait(10)

        allow_openmp(2 + i)
        in_region(work)
        after[i] = threads("openmp")

    with threadpool_limits(2, "blas"):
        started = [threading.Thread(target=run, args=(i,)) for i in range(2)]
        for thread in started:
            thread.start()
        opened.wait(10)
        for i in (first_to_close, 1 - first_to_close):
            assert set(threads()) == {1}
            may_close[i].set()
            started[i].join()
        assert set(threads()) == {2}
    assert [set(own) - {2 + i} for i, own in enumerate(after)] == [set(), set()]


def test_an_error_in_a_worker_is_raised_and_the_region_closes():
    with limited(2):
        with pytest.raises(ZeroDivisionError):
            in_region(lambda region: region.map(lambda x: 1 // x, [1, 0, 1]))
        assert set(threads()) == {2}


def test_an_interrupt_waits_for_the_other_threads_and_takes_no_more_items():
    seen, begun, main = [], threading.Event(), threading.current_thread()
    ended = threading.Event()

    def visit(i):
        seen.append(i)
        if threading.current_thread() is main:
            assert begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        ended.wait(0.2)
        ended.set()

    def together(region):
        with pytest.raises(KeyboardInterrupt):
            region.map(visit, range(10))
        assert ended.is_set()

    with limited(2):
        in_region(together)
    assert len(seen) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_in_a_region_goes_on_in_it():
    def fork(region):
        region.map(abs, range(-9, 0))  # makes a thread, which the child has not
        child = os.fork()
        if child == 0:
            right = region.map(abs, range(-9, 0)) == list(range(9, 0, -1))
            os._exit(0 if right and in_region(lambda inner: inner is region) else 1)
        return os.waitpid(child, 0)[1]

    with limited(2):
        assert in_region(fork) == 0


@pytest.mark.parametrize("struck", range(4))
def test_undoing_is_done_wherever_an_interrupt_strikes(struck):
    """In the body, in the first undoing before or after its work, or nowhere."""
    done, undone, moment = [], [], iter(range(9))

    def pass_by():
        if next(moment) == struck:
            raise KeyboardInterrupt

    def body():
        done.append(1)
        pass_by()

    def undo():
        pass_by()
        undone.append(1)
        pass_by()

    if struck < 3:
        with pytest.raises(KeyboardInterrupt):
            surely(body, undo)
    assert struck == 3 or undone
