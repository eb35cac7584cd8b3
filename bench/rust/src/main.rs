//! The v0 exchange by iroh, for `bench/transfer.py`: one file from disk to disk, hashed as a device hashes it.
//!
//!     bench-rust serve FILE ALPN SECRET HOST PREFIX                  PREFIX: of the answer, what goes before the file
//!     bench-rust fetch FILE ALPN SERVER HOST SOURCE PORT AUTH SKIP   SKIP: how many bytes that are
//!
//! HOST is where a side is bound, SOURCE and PORT where the server is. Bytes are in hexadecimal. Both print what the Python sides print, as lines of JSON.

use std::{env, error::Error, fs, net::SocketAddr, time::Instant};

use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey,
    endpoint::{Builder, presets::Minimal},
};
use sha2::{Digest, Sha512};
use tokio::io::{AsyncReadExt, AsyncWriteExt, stdin};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PIECE: usize = 1 << 18;
const TICKS: f64 = 100.0;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", file, alpn, secret, host, prefix] => serve(file, builder(alpn, host)?, secret, prefix).await,
        ["fetch", file, alpn, server, host, source, port, auth, skip] => {
            let there = SocketAddr::new(source.parse()?, port.parse()?);
            fetch(file, alpn, builder(alpn, host)?, server, there, auth, skip.parse()?).await
        }
        _ => Err("see the first lines of bench/rust/src/main.rs".into()),
    }
}

async fn serve(file: &str, builder: Builder, secret: &str, prefix: &str) -> Outcome<()> {
    let endpoint = builder.secret_key(SecretKey::from_bytes(&bytes(secret)?)).bind().await?;
    let (start, file, prefix) = (Usage::now()?, file.to_owned(), unhex(prefix)?);
    println!("{{\"port\": {}}}", endpoint.bound_sockets()[0].port());
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(give(incoming, file.clone(), prefix.clone()));
        }
    });
    stdin().read_to_end(&mut Vec::new()).await?;
    println!("{{{}}}", start.since()?);
    endpoint.close().await;
    Ok(())
}

async fn give(incoming: iroh::endpoint::Incoming, file: String, prefix: Vec<u8>) -> Outcome<()> {
    let connection = incoming.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    receive.read_exact(&mut [0; 64]).await?;
    send.write_all(&prefix).await?;
    let (mut source, mut piece) = (tokio::fs::File::open(file).await?, vec![0; PIECE]);
    loop {
        let count = source.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        send.write_all(&piece[..count]).await?;
    }
    send.finish()?;
    connection.closed().await;
    Ok(())
}

async fn fetch(
    file: &str, alpn: &str, builder: Builder, server: &str, there: SocketAddr, auth: &str, skip: usize,
) -> Outcome<()> {
    let endpoint = builder.bind().await?;
    let start = Usage::now()?;
    let server = EndpointAddr::new(EndpointId::from_bytes(&bytes(server)?)?).with_ip_addr(there);
    let connection = endpoint.connect(server, alpn.as_bytes()).await?;
    let clock = Instant::now();
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&unhex(auth)?).await?;
    receive.read_exact(&mut vec![0; skip]).await?;
    let (mut copy, mut piece, mut hash) = (tokio::fs::File::create(file).await?, vec![0; PIECE], Sha512::new());
    while let Some(count) = receive.read(&mut piece).await? {
        hash.update(&piece[..count]);
        copy.write_all(&piece[..count]).await?;
    }
    copy.flush().await?;
    let seconds = clock.elapsed().as_secs_f64();
    connection.close(0u32.into(), b"");
    println!("{{\"seconds\": {seconds}, \"hash\": {}, {}}}", hash.finalize()[0], start.since()?);
    endpoint.close().await;
    Ok(())
}

fn builder(alpn: &str, host: &str) -> Outcome<Builder> {
    let builder = Endpoint::builder(Minimal).relay_mode(RelayMode::Disabled).clear_ip_transports();
    Ok(builder.alpns(vec![alpn.into()]).bind_addr(format!("{host}:0"))?)
}

/// Memory and processor of this process.
struct Usage {
    resident: u64,
    processor: f64,
}

impl Usage {
    fn now() -> Outcome<Self> {
        Ok(Self { resident: Self::memory("VmRSS:")?, processor: Self::processor()? })
    }

    fn since(&self) -> Outcome<String> {
        let growth = Self::memory("VmHWM:")?.saturating_sub(self.resident);
        Ok(format!("\"growth\": {growth}, \"cpu\": {}", Self::processor()? - self.processor))
    }

    fn memory(name: &str) -> Outcome<u64> {
        let status = fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
        Ok(line.trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    fn processor() -> Outcome<f64> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS)
    }
}

fn unhex(text: &str) -> Outcome<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

fn bytes(text: &str) -> Outcome<[u8; 32]> {
    Ok(unhex(text)?.as_slice().try_into()?)
}
