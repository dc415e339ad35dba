fn main() {
    println!("{}", dependency::greeting());
}
