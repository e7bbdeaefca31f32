//! PostgreSQL, MariaDB and Redis through a public address, an agent and their real clients.

use portcullis_e2e::Stack;
use portcullis_e2e::servers::{MariaDb, Postgres, Redis};
use portcullis_e2e::shell::sh_async;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_and_pgbench_work_through_an_agent() {
    let (stack, postgres) = tokio::join!(Stack::start(), Postgres::start());
    let agent = stack.tcp(&postgres.port.to_string()).await;
    let to = format!("-h 127.0.0.1 -p {} -U postgres", agent.port());
    let out = sh_async(format!("psql {to} -Atc 'select 6*7'")).await;
    assert_eq!(out.trim(), "42");
    // COPY in both directions moves more than any buffer holds.
    let lines = sh_async(format!(
        "psql {to} -qc 'create table t(a int, b text)' && seq 1 200000 | sed 's/$/\\tsome text that makes rows longer/' \
         | psql {to} -qc 'copy t from stdin' && psql {to} -qc 'copy t to stdout' | wc -l"
    ))
    .await;
    assert_eq!(lines.trim(), "200000");
    sh_async(format!("pgbench {to} -q -i -s 1 postgres")).await;
    let out = sh_async(format!("pgbench {to} -n -c 8 -j 2 -t 100 postgres")).await;
    assert!(
        out.contains("number of transactions actually processed: 800/800"),
        "{out}"
    );
    let out = sh_async(format!("pgbench {to} -n -S -C -c 4 -j 2 -t 50 postgres")).await;
    assert!(
        out.contains("number of transactions actually processed: 200/200"),
        "{out}"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_query_ends_over_its_own_connection() {
    let (stack, postgres) = tokio::join!(Stack::start(), Postgres::start());
    let agent = stack.tcp(&postgres.port.to_string()).await;
    let out = sh_async(format!(
        "timeout -s INT 1 psql -h 127.0.0.1 -p {} -U postgres -c 'select pg_sleep(60)' 2>&1 || true",
        agent.port()
    ))
    .await;
    assert!(
        out.contains("canceling statement due to user request"),
        "{out}"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cli_and_redis_benchmark_work_through_an_agent() {
    let (stack, redis) = tokio::join!(Stack::start(), Redis::start());
    let agent = stack.tcp(&redis.port.to_string()).await;
    let cli = format!("redis-cli -h 127.0.0.1 -p {}", agent.port());
    assert_eq!(
        sh_async(format!("{cli} set gate open && {cli} get gate"))
            .await
            .trim(),
        "OK\nopen"
    );
    let out = sh_async(format!(
        "redis-benchmark -h 127.0.0.1 -p {} -n 20000 -c 50 -P 8 -q -t set,get",
        agent.port()
    ))
    .await;
    assert!(out.contains("requests per second"), "{out}");
    let size = sh_async(format!(
        "head -c 8000000 /dev/urandom | base64 -w0 | {cli} -x set big >/dev/null; {cli} strlen big"
    ))
    .await;
    assert_eq!(size.trim(), "10666668");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mysql_client_works_although_its_server_speaks_first() {
    let (stack, maria) = tokio::join!(Stack::start(), MariaDb::start());
    let agent = stack.tcp(&maria.port.to_string()).await;
    let client = format!(
        "mariadb --no-defaults -h 127.0.0.1 -P {} -u root --protocol=tcp --skip-ssl",
        agent.port()
    );
    assert_eq!(
        sh_async(format!("{client} -BNe 'select 6*7'")).await.trim(),
        "42"
    );
    let out = sh_async(format!(
        "{client} -BNe 'select length(repeat(\"x\", 10000000))'"
    ))
    .await;
    assert_eq!(out.trim(), "10000000");
    stack.balanced().await;
}
