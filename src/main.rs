//! The `manent` binary: everything is in the library's `cli`.

#[tokio::main]
async fn main() {
    let mut config = manent::config::Config::new("/tmp/t/flows.db".into(), "/tmp/t/ca".into());
    config.listen = vec!["127.0.0.1:8088".parse().unwrap()];
    config.upstream_ca = std::env::args().skip(1).map(Into::into).collect();
    let p = manent::app::Proxy::start(config).await.unwrap();
    eprintln!("listening on {}", p.addr());
    tokio::signal::ctrl_c().await.unwrap();
    println!(
        "{:?}",
        p.shutdown(manent::app::Grace {
            period: std::time::Duration::from_secs(5),
            skip: Default::default()
        })
        .await
    );
}
