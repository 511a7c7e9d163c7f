//! What holds the namespaces of a pod on the node of `make k8s-up`: it does nothing until it is killed.
fn main() {
    loop {
        std::thread::park();
    }
}
