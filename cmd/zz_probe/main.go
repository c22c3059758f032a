package main
import ("fmt";"github.com/cellward/cellward/loader")
func main(){ p,err:=loader.ProbeFilter(); fmt.Println("filter",p.Name,p.JITed,err); fmt.Println("tcx",loader.ProbeTCX()); fmt.Println("vcan",loader.ProbeLinkKind("vcan")); fmt.Println("tun", loader.ProbeTUN())}
