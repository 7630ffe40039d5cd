//! The limit of connections: who gives way, and who is refused.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_gives_way_or_gets_503_at_once() {
    let limits = AcceptLimits { connections: 2, ..AcceptLimits::default() };
    let (serving, asked, _go_on) = serve_slow(limits);
    let mut callers: Vec<DuplexStream> = (0..2).map(|_| serving.connector.connect(4096)).collect();
    for caller in &mut callers {
        caller.write_all(GET).await.expect("writable");
        read_hello(caller).await;
    }
    // The one that has been idle the longest closes for a third, and a silent one for a fourth; those that were just here stay.
    let mut early = serving.connector.connect(4096);
    assert!(read_to_end(&mut early).await.starts_with("HTTP/1.1 503 "));
    tokio::time::sleep(Duration::from_secs(2)).await;
    callers.push(serving.connector.connect(4096));
    assert_eq!(read_to_end(&mut callers[0]).await, "");
    callers[1].write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("writable");
    asked.notified().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut busy = serving.connector.connect(4096);
    assert_eq!(read_to_end(&mut callers[2]).await, "");
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("writable");
    asked.notified().await;
    let mut callers = vec![callers.remove(1), busy];
    assert_eq!((serving.metrics.refused.get(), serving.counts.open()), (1, 2));
    let start = Stopwatch::start();
    let mut refused = serving.connector.connect(4096);
    let answer = read_to_end(&mut refused).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(start.elapsed() < Duration::from_millis(10));
    assert_eq!((serving.metrics.refused.get(), serving.counts.open()), (2, 2));

    drop(callers.pop());
    while serving.counts.open() == 2 {
        tokio::task::yield_now().await;
    }
    let mut next = serving.connector.connect(4096);
    next.write_all(GET).await.expect("writable");
    read_hello(&mut next).await;
}

#[tokio::test(start_paused = true)]
async fn replaced_limits_hold_for_connections_that_are_open() {
    let seconds = Duration::from_secs;
    let idle = |idle| AcceptLimits { connections: 1, idle, ..AcceptLimits::default() };
    let live = LiveAcceptLimits::from(idle(seconds(600)));
    let serving = serve_with(live.clone(), false, |_| async { full("hello") });
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    read_hello(&mut caller).await;
    // Swept every 10 ms from here on.
    live.replace(AcceptLimits {
        connections: 2,
        request_header: Duration::from_millis(200),
        ..idle(seconds(20))
    });
    let mut second = serving.connector.connect(4096);
    second.write_all(GET).await.expect("writable");
    read_hello(&mut second).await;
    tokio::time::sleep(seconds(10)).await;
    // Seldom again: what was counted in short ticks must not count as more time.
    live.replace(AcceptLimits { connections: 2, ..idle(seconds(20)) });
    tokio::time::sleep(seconds(5)).await;
    for caller in [&mut caller, &mut second] {
        caller.write_all(GET).await.expect("writable");
        read_hello(caller).await;
    }
    let start = Stopwatch::start();
    assert_eq!(read_to_end(&mut caller).await, "");
    assert!(start.elapsed() >= seconds(20) && start.elapsed() < seconds(22), "{:?}", start.elapsed());
}
